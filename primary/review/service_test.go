package review_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/api"
	cav1 "github.com/isthmus-mesh/isthmus/api/ca"
	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
	"github.com/isthmus-mesh/isthmus/trust/csr"
)

// roots is a client that has no certificate yet.
type roots struct{ *ca.Authority }

func (r roots) SVID() (trust.SVID, error)     { return trust.SVID{}, trust.ErrNoSVID }
func (r roots) Bundle() (trust.Bundle, error) { return r.Authority.Bundle(), nil }

// serve runs the certificate service of east with the real review, and returns
// a client of it.
func serve(t *testing.T) (*ca.Authority, cav1.CertificateServiceClient) {
	t.Helper()
	domain, err := trust.ParseDomain("mesh.test")
	if err != nil {
		t.Fatal(err)
	}
	root, err := ca.CreateRoot(ca.RootOptions{Domain: domain})
	if err != nil {
		t.Fatal(err)
	}
	chain, key, err := root.Intermediate("east")
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.New(ca.Options{Cluster: "east", Domain: domain, ChainPEM: chain, KeyPEM: key, BundlePEM: root.CertificatePEM()})
	if err != nil {
		t.Fatal(err)
	}
	self, err := trust.NewID(domain, api.SystemNamespace, api.ControlPlaneName)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(trust.ServerTLS(authority.Source(self), nil, false, nil))))
	csr.NewServer(csr.Options{Authority: authority, Reviewer: newReviewer(t, east.Config, 0)}).Register(server)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	tls := trust.ClientTLS(roots{authority}, trust.ClusterDNS("east"), nil, trust.Only(self))
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(tls)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return authority, cav1.NewCertificateServiceClient(conn)
}

// From a token that a real API server made for a real pod, over TLS, to the
// certificate of its account; and not from any other token of that API server.
func TestCertificateForAPod(t *testing.T) {
	t.Parallel()
	authority, client := serve(t)
	namespace := east.Namespace(t)
	bound := pod(t, east, namespace)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(token string) (*cav1.SignResponse, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
		return client.Sign(ctx, &cav1.SignRequest{Csr: request, Cluster: "east"})
	}
	audience := api.TokenAudience("east")
	response, err := sign(east.Token(t, namespace, "web", bound, audience))
	if err != nil {
		t.Fatal(err)
	}
	var chain []*x509.Certificate
	for _, der := range response.GetChain() {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, cert)
	}
	peer, err := trust.VerifyPeer(chain, authority.Bundle(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if want := "spiffe://mesh.test/ns/" + namespace + "/sa/web"; peer.ID.String() != want || peer.Cluster != "east" {
		t.Errorf("certificate of %s in cluster %q, want %s in east", peer.ID, peer.Cluster, want)
	}
	for name, test := range map[string]struct {
		token string
		want  codes.Code
	}{
		"not bound to a pod":        {east.Token(t, namespace, "web", nil, audience), codes.Unauthenticated},
		"the api server's audience": {east.Token(t, namespace, "web", bound), codes.Unauthenticated},
		"another cluster":           {east.Token(t, namespace, "web", bound, api.TokenAudience("west")), codes.PermissionDenied},
	} {
		if _, err := sign(test.token); status.Code(err) != test.want {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
}
