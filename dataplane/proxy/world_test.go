package proxy_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
	"github.com/isthmus-mesh/isthmus/dataplane/proxy"
	"github.com/isthmus-mesh/isthmus/dataplane/telemetry"
	"github.com/isthmus-mesh/isthmus/trust"
)

// authority signs SVIDs for tests.
type authority struct {
	domain trust.Domain
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	bundle trust.Bundle
}

func newAuthority(t testing.TB, domain string) *authority {
	t.Helper()
	d, err := trust.ParseDomain(domain)
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "root of " + domain},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	bundle, err := trust.ParseBundle(d, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	must(t, err)
	return &authority{d, cert, key, bundle}
}

// svid is the identity of account in namespace of cluster.
func (a *authority) svid(t testing.TB, cluster, namespace, account string) source {
	t.Helper()
	id, err := trust.NewID(a.domain, namespace, account)
	must(t, err)
	uri, err := url.Parse(id.String())
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs: []*url.URL{uri}, DNSNames: []string{trust.ClusterDNS(cluster)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	svid, err := trust.NewSVID([]*x509.Certificate{leaf}, key)
	must(t, err)
	return source{svid, a.bundle}
}

type source struct {
	svid   trust.SVID
	bundle trust.Bundle
}

func (s source) SVID() (trust.SVID, error)     { return s.svid, nil }
func (s source) Bundle() (trust.Bundle, error) { return s.bundle, nil }
func (s source) id() string                    { return s.svid.ID.String() }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// destinations tells where connections were going before they were redirected:
// by the loopback address 127.0.0.N that the client dialled.
type destinations struct {
	mu sync.Mutex
	to map[netip.Addr]netip.AddrPort
}

func (d *destinations) set(local string, dst netip.AddrPort) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.to == nil {
		d.to = map[netip.Addr]netip.AddrPort{}
	}
	d.to[netip.MustParseAddr(local)] = dst
}

func (d *destinations) of(c net.Conn) (netip.AddrPort, error) {
	local := c.LocalAddr().(*net.TCPAddr).AddrPort()
	d.mu.Lock()
	defer d.mu.Unlock()
	if dst, ok := d.to[local.Addr().Unmap()]; ok {
		return dst, nil
	}
	return local, nil
}

// instance is a running proxy.
type instance struct {
	*proxy.Proxy
	dsts     destinations
	registry *prometheus.Registry
	stop     context.CancelFunc
}

func start(t testing.TB, src trust.Source, change ...func(*proxy.Options)) *instance {
	t.Helper()
	in := &instance{registry: prometheus.NewRegistry()}
	opts := proxy.Options{
		Source: src, NoMark: true, OriginalDst: in.dsts.of, Metrics: in.registry, DrainTimeout: time.Second,
		Node: telemetry.Node{Cluster: "east", Namespace: "shop", Workload: "client"},
		Log:  slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if _, ok := t.(*testing.B); ok {
		opts.Log = nil
	}
	for _, c := range change {
		c(&opts)
	}
	p, err := proxy.New(opts)
	must(t, err)
	in.Proxy = p
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	in.stop = cancel
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(40 * time.Second):
			t.Error("proxy did not end")
		}
	})
	return in
}

// apply checks every message, as the xDS client does, and applies all.
func (in *instance) apply(t testing.TB, s state) {
	t.Helper()
	for url, byName := range s {
		for name, m := range byName {
			if err := config.Check(url, name, m); err != nil {
				t.Fatalf("check %s: %v", name, err)
			}
		}
	}
	must(t, in.Apply(s))
}

func (in *instance) bound(t testing.TB, listener string) netip.AddrPort {
	t.Helper()
	addrs := in.Bound(listener)
	if len(addrs) == 0 {
		t.Fatalf("listener %s is not bound", listener)
	}
	return addrs[0].(*net.TCPAddr).AddrPort()
}

func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

var anyPort = netip.MustParseAddrPort("0.0.0.0:0")

// app starts an HTTP application, speaking HTTP/1.1 and HTTP/2 with prior knowledge.
func app(t testing.TB, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).AddrPort()
}

// client calls through the outbound listener at 127.0.0.N.
func client(t testing.TB, via *instance, local string, h2 bool) *http.Client {
	t.Helper()
	port := via.bound(t, "outbound").Port()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", netip.AddrPortFrom(netip.MustParseAddr(local), port).String())
	}
	if h2 {
		tr.Protocols.SetUnencryptedHTTP2(true)
	} else {
		tr.Protocols.SetHTTP1(true)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// eventually waits until ok, for at most 20 s.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func mustAddr(t testing.TB, s string) netip.AddrPort {
	t.Helper()
	at, err := netip.ParseAddrPort(s)
	must(t, err)
	return at
}

type proxyOptions = proxy.Options
