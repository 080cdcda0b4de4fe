package secrets

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
)

// source is an identity that the test renews.
type source struct {
	t         *testing.T
	authority *ca.Authority
	id        trust.ID

	mu      sync.Mutex
	svid    trust.SVID
	changed chan struct{}
}

func newSource(t *testing.T) *source {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	domain, err := trust.ParseDomain("mesh.test")
	must(err)
	root, err := ca.CreateRoot(ca.RootOptions{Domain: domain})
	must(err)
	chain, key, err := root.Intermediate("east")
	must(err)
	authority, err := ca.New(ca.Options{Cluster: "east", Domain: domain, ChainPEM: chain, KeyPEM: key, BundlePEM: root.CertificatePEM()})
	must(err)
	id, err := trust.NewID(domain, "shop", "web")
	must(err)
	return &source{t: t, authority: authority, id: id, changed: make(chan struct{})}
}

func (s *source) SVID() (trust.SVID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.svid.IsZero() {
		return s.svid, trust.ErrNoSVID
	}
	return s.svid, nil
}

func (s *source) Bundle() (trust.Bundle, error) { return s.authority.Bundle(), nil }

func (s *source) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *source) renew() trust.SVID {
	s.t.Helper()
	svid, err := s.authority.Issue(s.id)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.svid = svid
	close(s.changed)
	s.changed = make(chan struct{})
	return svid
}

func connect(t *testing.T, src Source) (secretv3.SecretDiscoveryServiceClient, context.Context) {
	t.Helper()
	server, err := New(src, nil)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "sds.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	server.Register(g)
	go g.Serve(l)
	t.Cleanup(g.Stop)
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return secretv3.NewSecretDiscoveryServiceClient(conn), ctx
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestStreamSecrets: an Envoy that asks before there is an identity gets it as
// soon as there is one, and each new one; a refusal is no reason to send again.
func TestStreamSecrets(t *testing.T) {
	src := newSource(t)
	client, ctx := connect(t, src)
	stream, err := client.StreamSecrets(ctx)
	check(t, err)
	check(t, stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: Type, ResourceNames: []string{Certificate}}))
	for i := range 3 {
		svid := src.renew()
		resp, err := stream.Recv()
		check(t, err)
		if len(resp.GetResources()) != 1 {
			t.Fatalf("response %d: %v", i, resp)
		}
		secret := new(tlsv3.Secret)
		check(t, resp.GetResources()[0].UnmarshalTo(secret))
		check(t, secret.ValidateAll())
		cert := secret.GetTlsCertificate()
		if secret.GetName() != Certificate || !bytes.Equal(cert.GetCertificateChain().GetInlineBytes(), svid.ChainPEM()) {
			t.Fatalf("response %d is another certificate", i)
		}
		if _, err := trust.ParseSVID(cert.GetCertificateChain().GetInlineBytes(), cert.GetPrivateKey().GetInlineBytes()); err != nil {
			t.Error(err)
		}
		ack := &discoveryv3.DiscoveryRequest{TypeUrl: Type, ResourceNames: []string{Certificate}, ResponseNonce: resp.GetNonce()}
		if i == 1 {
			ack.ErrorDetail = &status.Status{Message: "no"}
		}
		check(t, stream.Send(ack))
	}
	check(t, stream.CloseSend())
	if _, err := stream.Recv(); err == nil {
		t.Error("sent again what was acknowledged")
	}
}

func TestDeltaSecrets(t *testing.T) {
	src := newSource(t)
	client, ctx := connect(t, src)
	stream, err := client.DeltaSecrets(ctx)
	check(t, err)
	check(t, stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: Type, ResourceNamesSubscribe: []string{Roots, "unknown"}}))
	resp, err := stream.Recv()
	check(t, err)
	secret := new(tlsv3.Secret)
	check(t, resp.GetResources()[0].GetResource().UnmarshalTo(secret))
	got := secret.GetValidationContext().GetTrustedCa().GetInlineBytes()
	if len(resp.GetResources()) != 1 || !bytes.Equal(got, src.authority.Bundle().PEM()) {
		t.Errorf("roots: %s", got)
	}
	src.renew()
	check(t, stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: Type, ResponseNonce: resp.GetNonce(), ResourceNamesSubscribe: []string{Certificate}}))
	resp, err = stream.Recv()
	check(t, err)
	if len(resp.GetResources()) != 1 || resp.GetResources()[0].GetName() != Certificate {
		t.Errorf("then: %v", resp)
	}
}

func TestFetchSecrets(t *testing.T) {
	src := newSource(t)
	client, ctx := connect(t, src)
	resp, err := client.FetchSecrets(ctx, &discoveryv3.DiscoveryRequest{ResourceNames: []string{Certificate, Roots}})
	check(t, err)
	if len(resp.GetResources()) != 1 {
		t.Errorf("without an identity: %d secrets", len(resp.GetResources()))
	}
}
