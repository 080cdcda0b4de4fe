package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/client-go/kubernetes"

	cav1 "github.com/isthmus-mesh/isthmus/api/ca"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/trust"
)

// Every port without credentials: garbage, large messages, slow headers, many
// streams. Nothing crashes, and a legitimate client is served meanwhile.
// (faults.md, row 49)
func TestAttacks(t *testing.T) {
	caDir, bundle := authority(t)
	d := start(t, "isthmusd-attacked", caDir, bundle)
	ns := env.Namespace(t)
	pod := makePod(t, env, kubernetes.NewForConfigOrDie(env.Config), ns, "client", "10.1.0.7")
	token := env.Token(t, ns, "client", &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}, api.TokenAudience("east"))

	ctx, cancel := context.WithCancel(t.Context())
	var attackers sync.WaitGroup
	for range 4 {
		for _, address := range []string{d.discovery, d.webhook, d.health, d.metrics} {
			attackers.Go(func() {
				for ctx.Err() == nil {
					garbage(address)
				}
			})
		}
		attackers.Go(func() {
			for ctx.Err() == nil {
				rawHTTP2(d.discovery)
			}
		})
	}
	slow, err := net.Dial("tcp", d.health)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	_, _ = io.WriteString(slow, "GET /readyz HTTP/1.1\r\nX-Slow: ")
	attackers.Go(func() { // one connection, many streams without a credential
		client := discoveryv3.NewAggregatedDiscoveryServiceClient(d.dial(t, trust.SVID{}))
		for i := 0; i < 500 && ctx.Err() == nil; i++ {
			if stream, err := client.StreamAggregatedResources(ctx); err == nil {
				_, _ = stream.Recv()
			}
		}
	})
	large := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	_, err = cav1.NewCertificateServiceClient(d.dial(t, trust.SVID{})).Sign(large, &cav1.SignRequest{Csr: bytes.Repeat([]byte{1}, 8<<20)})
	if code := status.Code(err); code != codes.ResourceExhausted {
		t.Errorf("a message of 8 MiB: %v", err)
	}
	for range 5 {
		began := time.Now()
		if svid := d.sign(t, token); svid.IsZero() {
			t.Error("no svid")
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("a legitimate client waited %s", took)
		}
	}
	cancel()
	attackers.Wait()
	_ = slow.SetReadDeadline(time.Now().Add(30 * time.Second))
	if answer, err := io.ReadAll(slow); err != nil || strings.Contains(string(answer), "200 OK") {
		t.Errorf("slow headers were waited for: %q, %v", answer, err)
	}
	response, err := http.Get("http://" + d.health + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("not ready any more: %s", response.Status)
	}
}

// garbage sends bytes that are no protocol.
func garbage(address string) {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, _ = conn.Write(bytes.Repeat([]byte{0x16, 0x03, 0x01, 0xff, 0xff, 0x00}, 4096))
	_, _ = conn.Read(make([]byte, 64))
}

// rawHTTP2 passes the handshake and then sends frames that are none.
func rawHTTP2(address string) {
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}, NetDialer: &net.Dialer{Timeout: time.Second}}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	_, _ = conn.Write(bytes.Repeat([]byte{0xff}, 64<<10))
	_, _ = io.Copy(io.Discard, conn)
}

// No port shows a key or a token, wherever it is read. (faults.md, row 53)
func TestNoSecretsShown(t *testing.T) {
	caDir, bundle := authority(t)
	d := start(t, "isthmusd-shown", caDir, bundle)
	for _, url := range []string{
		"http://" + d.debug + "/debug/clusters", "http://" + d.debug + "/debug/snapshot", "http://" + d.debug + "/debug/proxies",
		"http://" + d.debug + "/debug/pprof/goroutine?debug=2", "http://" + d.metrics + "/metrics",
	} {
		response, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s, %v", url, response.Status, err)
		}
		for _, secret := range []string{"PRIVATE KEY", "eyJhbGciOi"} {
			if bytes.Contains(body, []byte(secret)) {
				t.Errorf("%s shows %s", url, secret)
			}
		}
	}
	response, err := http.Get("http://" + d.metrics + "/debug/pprof/")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("profiles are served off loopback: %s", response.Status)
	}
}
