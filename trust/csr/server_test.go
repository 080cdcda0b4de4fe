package csr_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/api"
	cav1 "github.com/isthmus-mesh/isthmus/api/ca"
	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
	"github.com/isthmus-mesh/isthmus/trust/csr"
)

const (
	web   = "spiffe://mesh.test/ns/shop/sa/web"
	admin = "spiffe://mesh.test/ns/shop/sa/admin"
	gone  = "spiffe://mesh.test/ns/shop/sa/gone"
	self  = "spiffe://mesh.test/ns/isthmus-system/sa/isthmusd"
)

func identity(t testing.TB, s string) trust.ID {
	t.Helper()
	id, err := trust.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// token makes a jwt of the right shape; who it is for stands in the signature,
// where the reviewer of these tests reads it.
func token(t testing.TB, who string, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"RS256"}`)) + "." + encode(payload) + "." + encode([]byte(who))
}

func goodToken(t testing.TB, who, cluster string) string {
	return token(t, who, map[string]any{"aud": []string{api.TokenAudience(cluster)}, "exp": time.Now().Add(time.Hour).Unix()})
}

// reviewer stands in for an API server of cluster east that can misbehave; the
// real review is tested on a real one in primary/review.
type reviewer struct {
	calls atomic.Int64
	fail  atomic.Pointer[error]
	panic atomic.Bool
}

func (r *reviewer) Review(_ context.Context, cluster, token string) (csr.Reviewed, error) {
	r.calls.Add(1)
	if r.panic.Load() {
		panic("review")
	}
	if err := r.fail.Load(); err != nil {
		return csr.Reviewed{}, *err
	}
	if cluster != "east" {
		return csr.Reviewed{}, csr.ErrOtherCluster
	}
	who, err := base64.RawURLEncoding.DecodeString(token[strings.LastIndex(token, ".")+1:])
	if err != nil {
		return csr.Reviewed{}, csr.ErrRefused
	}
	id, err := trust.ParseID(string(who))
	if err != nil {
		return csr.Reviewed{}, csr.ErrRefused
	}
	return csr.Reviewed{ID: id, Cluster: cluster, Namespace: id.Namespace(), Pod: "pod", PodUID: "uid"}, nil
}

type env struct {
	root      *ca.Root
	authority *ca.Authority
	reviewer  *reviewer
	address   string
	log       *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newRoot(t testing.TB) *ca.Root {
	t.Helper()
	domain, err := trust.ParseDomain("mesh.test")
	if err != nil {
		t.Fatal(err)
	}
	root, err := ca.CreateRoot(ca.RootOptions{Domain: domain})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func newAuthority(t testing.TB, root *ca.Root, cluster string) *ca.Authority {
	t.Helper()
	chain, key, err := root.Intermediate(cluster)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.New(ca.Options{
		Cluster: cluster, Domain: root.Domain(), ChainPEM: chain, KeyPEM: key, BundlePEM: root.CertificatePEM(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

// start serves the certificate service of cluster east over TLS on loopback.
func start(t testing.TB, limits csr.Limits) *env {
	t.Helper()
	e := &env{root: newRoot(t), reviewer: &reviewer{}, log: &syncBuffer{}}
	e.authority = newAuthority(t, e.root, "east")
	source := e.authority.Source(identity(t, self))
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(trust.ServerTLS(source, nil, false, nil))))
	csr.NewServer(csr.Options{
		Authority: e.authority, Reviewer: e.reviewer, Limits: limits, Log: slog.New(slog.NewTextHandler(e.log, nil)),
		Lives: func(id trust.ID) bool { return id.String() != gone },
	}).Register(server)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.address = listener.Addr().String()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return e
}

// clientSource is a client with a fixed SVID, or none.
type clientSource struct {
	svid      trust.SVID
	authority *ca.Authority
}

func (s clientSource) SVID() (trust.SVID, error)     { return s.svid, nil }
func (s clientSource) Bundle() (trust.Bundle, error) { return s.authority.Bundle(), nil }

// client connects as svid, or with no certificate for the zero SVID.
func (e *env) client(t testing.TB, svid trust.SVID) cav1.CertificateServiceClient {
	t.Helper()
	source := clientSource{svid, e.authority}
	tls := trust.ClientTLS(source, trust.ClusterDNS("east"), nil, trust.Only(identity(t, self)))
	conn, err := grpc.NewClient(e.address, grpc.WithTransportCredentials(credentials.NewTLS(tls)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return cav1.NewCertificateServiceClient(conn)
}

func call(t testing.TB, client cav1.CertificateServiceClient, token string, request *cav1.SignRequest) (*cav1.SignResponse, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	return client.Sign(ctx, request)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func request(t testing.TB, template *x509.CertificateRequest, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func parse(t testing.TB, ders [][]byte) []*x509.Certificate {
	t.Helper()
	var certs []*x509.Certificate
	for _, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, cert)
	}
	return certs
}

// Whatever a CSR asks for, the certificate is for the identity of the token and
// has nothing else in it.
func TestIdentityComesFromTheToken(t *testing.T) {
	t.Parallel()
	e := start(t, csr.Limits{})
	client := e.client(t, trust.SVID{})
	other, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	basicCA, err := asn1.Marshal(struct {
		CA      bool
		PathLen int
	}{true, 5})
	if err != nil {
		t.Fatal(err)
	}
	for name, template := range map[string]*x509.CertificateRequest{
		"empty":              {},
		"another's identity": {URIs: []*url.URL{other}},
		"another cluster":    {DNSNames: []string{trust.ClusterDNS("west")}},
		"surplus names": {
			Subject: pkix.Name{CommonName: "root"}, DNSNames: []string{"*.mesh.test", "kubernetes.default.svc"},
			EmailAddresses: []string{"root@mesh.test"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)},
		},
		"ca true": {ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: basicCA}}},
	} {
		key := newKey(t)
		response, err := call(t, client, goodToken(t, web, "east"), &cav1.SignRequest{Csr: request(t, template, key), Cluster: "east"})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		peer, err := trust.VerifyPeer(parse(t, response.GetChain()), e.authority.Bundle(), time.Now())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if peer.ID.String() != web || peer.Cluster != "east" {
			t.Errorf("%s: signed for %s of cluster %q", name, peer.ID, peer.Cluster)
		}
		if !key.PublicKey.Equal(peer.Leaf.PublicKey) || peer.Leaf.Subject.String() != "" || len(response.GetBundle()) != 1 {
			t.Errorf("%s: key, subject %q or bundle of %d wrong", name, peer.Leaf.Subject, len(response.GetBundle()))
		}
	}
}

func TestCSRRefused(t *testing.T) {
	t.Parallel()
	e := start(t, csr.Limits{})
	client := e.client(t, trust.SVID{})
	good := request(t, &x509.CertificateRequest{}, newKey(t))
	badSignature := bytes.Clone(good)
	badSignature[len(badSignature)-1] ^= 1
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, der := range map[string][]byte{
		"none":          nil,
		"garbage":       []byte("-----BEGIN CERTIFICATE REQUEST-----"),
		"truncated":     good[:len(good)-10],
		"trailing":      append(bytes.Clone(good), 0),
		"bad signature": badSignature,
		"p-384":         request(t, &x509.CertificateRequest{}, p384),
		"rsa 1024":      request(t, &x509.CertificateRequest{}, rsa1024(t)),
		"huge":          make([]byte, 1<<20),
	} {
		_, err := call(t, client, goodToken(t, web, "east"), &cav1.SignRequest{Csr: der, Cluster: "east"})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want %s", name, err, codes.InvalidArgument)
		}
	}
}

// rsa1024 is as short as Go still makes them.
func rsa1024(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestTokenRefused(t *testing.T) {
	t.Parallel()
	e := start(t, csr.Limits{})
	client := e.client(t, trust.SVID{})
	body := &cav1.SignRequest{Csr: request(t, &x509.CertificateRequest{}, newKey(t)), Cluster: "east"}
	east := api.TokenAudience("east")
	hour := time.Now().Add(time.Hour).Unix()
	for _, test := range []struct {
		name, token string
		want        codes.Code
		reviewed    bool // whether the API server is asked at all
	}{
		{"none", "", codes.Unauthenticated, false},
		{"not a jwt", "abc", codes.Unauthenticated, false},
		{"payload not json", "YQ.YQ.YQ", codes.Unauthenticated, false},
		{"no signature", strings.TrimRight(goodToken(t, web, "east"), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"), codes.Unauthenticated, false},
		{"no audience", token(t, web, map[string]any{"exp": hour}), codes.Unauthenticated, false},
		{"the api server's audience", token(t, web, map[string]any{"aud": "https://kubernetes.default.svc", "exp": hour}), codes.Unauthenticated, false},
		{"two clusters", token(t, web, map[string]any{"aud": []string{east, api.TokenAudience("west")}, "exp": hour}), codes.Unauthenticated, false},
		{"cluster with a dot", token(t, web, map[string]any{"aud": api.TokenAudience("a.east"), "exp": hour}), codes.Unauthenticated, false},
		{"expired", token(t, web, map[string]any{"aud": east, "exp": hour - 7200}), codes.Unauthenticated, false},
		{"huge", strings.Repeat("a", 20<<10), codes.Unauthenticated, false},
		{"of another cluster", goodToken(t, web, "west"), codes.PermissionDenied, true},
		{"refused by review", goodToken(t, "nobody", "east"), codes.Unauthenticated, true},
	} {
		before := e.reviewer.calls.Load()
		_, err := call(t, client, test.token, body)
		if status.Code(err) != test.want {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
		if reviewed := e.reviewer.calls.Load() > before; reviewed != test.reviewed {
			t.Errorf("%s: reviewed %v, want %v", test.name, reviewed, test.reviewed)
		}
	}
	if _, err := call(t, client, goodToken(t, web, "east"), &cav1.SignRequest{Csr: body.Csr, Cluster: "west"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("good token, another cluster asked for: %v", err)
	}
	down := error(errors.New("connection refused"))
	e.reviewer.fail.Store(&down)
	if _, err := call(t, client, goodToken(t, web, "east"), body); status.Code(err) != codes.Unavailable {
		t.Errorf("api server down: %v, want %s", err, codes.Unavailable)
	}
	if text := e.log.String(); strings.Contains(text, goodToken(t, web, "west")) || strings.Contains(text, "Bearer") {
		t.Error("the log holds a token")
	}
}

func TestRenewalBySVID(t *testing.T) {
	t.Parallel()
	e := start(t, csr.Limits{})
	body := &cav1.SignRequest{Csr: request(t, &x509.CertificateRequest{}, newKey(t)), Cluster: "east"}
	mine, err := e.authority.Issue(identity(t, web))
	if err != nil {
		t.Fatal(err)
	}
	// The SVID goes before a token of somebody else.
	response, err := call(t, e.client(t, mine), goodToken(t, admin, "east"), body)
	if err != nil {
		t.Fatal(err)
	}
	if got := parse(t, response.GetChain())[0].URIs[0].String(); got != web {
		t.Errorf("renewed as %s", got)
	}
	if e.reviewer.calls.Load() != 0 {
		t.Error("a renewal was reviewed")
	}
	// A workload of west is known, but gets nothing of east.
	theirs, err := newAuthority(t, e.root, "west").Issue(identity(t, web))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, e.client(t, theirs), "", body); status.Code(err) != codes.PermissionDenied {
		t.Errorf("svid of another cluster: %v, want %s", err, codes.PermissionDenied)
	}
	// One of another root does not even get a connection.
	foreign, err := newAuthority(t, newRoot(t), "east").Issue(identity(t, web))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, e.client(t, foreign), goodToken(t, web, "east"), body); status.Code(err) != codes.Unavailable {
		t.Errorf("svid of another root: %v, want %s", err, codes.Unavailable)
	}
}

// A key that was stolen from a pod does not renew itself once no pod of that
// account is there; a token, which the API server reviews, is enough as ever.
// (faults 40)
func TestRenewalNeedsAPod(t *testing.T) {
	t.Parallel()
	e := start(t, csr.Limits{})
	body := &cav1.SignRequest{Csr: request(t, &x509.CertificateRequest{}, newKey(t)), Cluster: "east"}
	stolen, err := e.authority.Issue(identity(t, gone))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, e.client(t, stolen), "", body); status.Code(err) != codes.PermissionDenied {
		t.Errorf("renewed without a pod: %v", err)
	}
	if _, err := call(t, e.client(t, trust.SVID{}), goodToken(t, gone, "east"), body); err != nil {
		t.Errorf("with a token: %v", err)
	}
}

// A connection that stays open loses its identity with the root that it stood on,
// and resumption lets nobody back in.
func TestDroppedRootEndsRenewal(t *testing.T) {
	t.Parallel()
	e := start(t, csr.Limits{})
	body := &cav1.SignRequest{Csr: request(t, &x509.CertificateRequest{}, newKey(t)), Cluster: "east"}
	mine, err := e.authority.Issue(identity(t, web))
	if err != nil {
		t.Fatal(err)
	}
	client := e.client(t, mine)
	if _, err := call(t, client, "", body); err != nil {
		t.Fatal(err)
	}
	next := newRoot(t)
	chain, key, err := next.Intermediate("east")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.authority.Replace(ca.Material{Chain: chain, Key: key, Bundle: next.CertificatePEM()}); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, client, "", body); status.Code(err) != codes.Unauthenticated {
		t.Errorf("by a dropped root: %v, want %s", err, codes.Unauthenticated)
	}
	if _, err := call(t, client, goodToken(t, web, "east"), body); err != nil {
		t.Errorf("by the token on the same connection: %v", err)
	}
}

func TestNeedsTLS(t *testing.T) {
	t.Parallel()
	e := start(t, csr.Limits{})
	server := grpc.NewServer()
	csr.NewServer(csr.Options{Authority: e.authority, Reviewer: e.reviewer}).Register(server)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_, err = call(t, cav1.NewCertificateServiceClient(conn), goodToken(t, web, "east"), &cav1.SignRequest{Cluster: "east"})
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("without tls: %v, want %s", err, codes.Unauthenticated)
	}
}

func TestPanicEndsOneCall(t *testing.T) {
	t.Parallel()
	e := start(t, csr.Limits{})
	client := e.client(t, trust.SVID{})
	body := &cav1.SignRequest{Csr: request(t, &x509.CertificateRequest{}, newKey(t)), Cluster: "east"}
	e.reviewer.panic.Store(true)
	if _, err := call(t, client, goodToken(t, web, "east"), body); status.Code(err) != codes.Internal {
		t.Errorf("panic: %v, want %s", err, codes.Internal)
	}
	e.reviewer.panic.Store(false)
	if _, err := call(t, client, goodToken(t, web, "east"), body); err != nil {
		t.Errorf("after a panic: %v", err)
	}
}

// One workload that asks a hundred times is limited; another is not.
func TestLimitIsPerCaller(t *testing.T) {
	t.Parallel()
	e := start(t, csr.Limits{SourceBurst: 1000, CallerRate: 0.001, CallerBurst: 5})
	client := e.client(t, trust.SVID{})
	body := &cav1.SignRequest{Csr: request(t, &x509.CertificateRequest{}, newKey(t)), Cluster: "east"}
	signed, limited := 0, 0
	for range 100 {
		switch _, err := call(t, client, goodToken(t, web, "east"), body); status.Code(err) {
		case codes.OK:
			signed++
		case codes.ResourceExhausted:
			limited++
		default:
			t.Fatal(err)
		}
	}
	if signed != 5 || limited != 95 {
		t.Errorf("%d signed and %d limited, want 5 and 95", signed, limited)
	}
	if _, err := call(t, client, goodToken(t, admin, "east"), body); err != nil {
		t.Errorf("another workload: %v", err)
	}
}

// Before anything is proved, an address cannot cost more reviews than its limit.
func TestLimitBeforeReview(t *testing.T) {
	t.Parallel()
	e := start(t, csr.Limits{SourceRate: 0.001, SourceBurst: 3})
	client := e.client(t, trust.SVID{})
	for range 20 {
		if _, err := call(t, client, goodToken(t, "nobody", "east"), &cav1.SignRequest{}); err == nil {
			t.Fatal("signed")
		}
	}
	if got := e.reviewer.calls.Load(); got != 3 {
		t.Errorf("%d reviews, want 3", got)
	}
}

// Five hundred new workloads at once, one of them a thousandfold, and renewals
// among them: everybody else is served.
func TestRush(t *testing.T) {
	t.Parallel()
	e := start(t, csr.Limits{SourceRate: 1e6, SourceBurst: 1e6, CallerRate: 0.001, CallerBurst: 20})
	body := &cav1.SignRequest{Csr: request(t, &x509.CertificateRequest{}, newKey(t)), Cluster: "east"}
	mine, err := e.authority.Issue(identity(t, admin))
	if err != nil {
		t.Fatal(err)
	}
	renewing, fresh := e.client(t, mine), []cav1.CertificateServiceClient{e.client(t, trust.SVID{}), e.client(t, trust.SVID{})}
	greedy, flooded := e.client(t, trust.SVID{}), make(chan struct{})
	var all, flood sync.WaitGroup
	flood.Go(func() {
		for {
			select {
			case <-flooded:
				return
			default:
				if _, err := call(t, greedy, goodToken(t, web, "east"), body); err != nil && status.Code(err) != codes.ResourceExhausted {
					t.Errorf("greedy: %v", err)
				}
			}
		}
	})
	for n := range 500 {
		all.Go(func() {
			who := "spiffe://mesh.test/ns/shop/sa/web-" + strconv.Itoa(n)
			if _, err := call(t, fresh[n%2], goodToken(t, who, "east"), body); err != nil {
				t.Errorf("%s: %v", who, err)
			}
		})
	}
	for range 10 {
		all.Go(func() {
			if _, err := call(t, renewing, "", body); err != nil {
				t.Errorf("renewal: %v", err)
			}
		})
	}
	all.Wait()
	close(flooded)
	flood.Wait()
}

// One request over a standing connection, review aside.
func BenchmarkSignOverGRPC(b *testing.B) {
	e := start(b, csr.Limits{SourceRate: 1e9, SourceBurst: 1e9, CallerRate: 1e9, CallerBurst: 1e9})
	client := e.client(b, trust.SVID{})
	body := &cav1.SignRequest{Csr: request(b, &x509.CertificateRequest{}, newKey(b)), Cluster: "east"}
	token := goodToken(b, web, "east")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := call(b, client, token, body); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
