//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	authv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	caapi "github.com/isthmus-mesh/isthmus/api/ca"
)

// An export for chosen clusters is imported by these alone, and its pods refuse the workloads of the others, who
// may know its server name: the caller's certificate says its cluster.
func TestExportToChosenClusters(t *testing.T) {
	mesh.Needs(t, ThirdCluster, NorthIsPrimary, SeparateNetworks, Time)
	t.Parallel()
	const ns, url = "chosen", "http://echo.chosen.svc.clusterset.local"
	mesh.North.Namespace(t, ns, true)
	caller := exportedEcho(t, ns, mesh.West)
	north := NewCaller(t, mesh.North, ns)
	caller.Reaches(t, url, time.Minute, "west")
	north.Reaches(t, url, time.Minute, "west")

	annotateExport(t, mesh.West, ns, "echo", api.AnnotationExportTo, "east")
	mesh.North.NotImported(t, ns, "echo")
	north.Fails(t, url, 30*time.Second)
	caller.Reaches(t, url, 10*time.Second, "west")
	mesh.East.Imported(t, ns, "echo")

	gateway := mesh.West.Forward(t, "isthmus-system", mesh.West.SystemPod(t, api.EastWestName), api.PortEastWest)
	sni := "p80.echo." + ns + ".sni.isthmus.internal"
	for c, welcome := range map[*Cluster]bool{mesh.East: true, mesh.North: false} {
		t.Run("a workload of "+c.Name+" that sends the server name", func(t *testing.T) {
			identity := c.identity(t, ns, "client")
			Eventually(t, 20*time.Second, "the answer is as it should be", func(ctx context.Context) error {
				switch err := getOver(ctx, gateway, sni, identity); {
				case welcome && err != nil:
					return err
				case !welcome && err == nil:
					return fmt.Errorf("it was answered")
				}
				return nil
			})
		})
	}
	t.Run("and everybody again", func(t *testing.T) {
		annotateExport(t, mesh.West, ns, "echo", api.AnnotationExportTo, "")
		north.Reaches(t, url, 30*time.Second, "west")
	})
}

// identity gets a certificate of a pod's account from the cluster's certificate service, as a proxy does.
func (c *Cluster) identity(t *testing.T, ns, account string) tls.Certificate {
	t.Helper()
	pod := c.Ready(t, ns, "app="+account, 1)[0]
	token, err := c.Kube.CoreV1().ServiceAccounts(ns).CreateToken(t.Context(), account, &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{
		Audiences: []string{api.TokenAudience(c.Name)}, ExpirationSeconds: new(int64(600)),
		BoundObjectRef: &authv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	addr := c.Forward(t, "isthmus-system", c.SystemPod(t, api.ControlPlaneName), api.PortDiscovery)
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		ServerName: c.Name + "." + api.ClusterZone, InsecureSkipVerify: true, //nolint:gosec // a forwarded port of our own sandbox
	})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token.Status.Token), 20*time.Second)
	defer cancel()
	signed, err := caapi.NewCertificateServiceClient(conn).Sign(ctx, &caapi.SignRequest{Csr: csr, Cluster: c.Name})
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: signed.Chain, PrivateKey: key}
}

// getOver asks for a page over the mesh's TLS with an identity, through a gateway.
func getOver(ctx context.Context, addr, sni string, identity tls.Certificate) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{
		ServerName: sni, NextProtos: []string{api.ALPN}, MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{identity},
		InsecureSkipVerify: true, //nolint:gosec // who answers is not what is asked here
	})
	_ = conn.SetDeadline(time.Now().Add(8 * time.Second))
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://echo/", nil)
	if err != nil {
		return err
	}
	if err := req.Write(conn); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}
