package trust_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/trust"
)

// source is a trust.Source whose content tests change.
type source struct {
	mu     sync.Mutex
	svid   trust.SVID
	bundle trust.Bundle
}

func (s *source) SVID() (trust.SVID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.svid, nil
}

func (s *source) Bundle() (trust.Bundle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bundle, nil
}

func (s *source) setBundle(b trust.Bundle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bundle = b
}

func svid(t testing.TB, id, cluster string, root issuer) trust.SVID {
	t.Helper()
	middle := root.intermediate(t, cluster, nil)
	key := newKey(t)
	leaf := middle.sign(t, leafTemplate(id, trust.ClusterDNS(cluster)), key.Public())
	chainPEM := trust.EncodeCertificates([]*x509.Certificate{leaf, middle.cert})
	keyPEM, err := trust.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := trust.ParseSVID(chainPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve answers each connection with the client's first byte, after the handshake.
func serve(t testing.TB, config *tls.Config) string {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				_, _ = io.CopyN(conn, conn, 1)
			})
		}
	})
	t.Cleanup(func() { listener.Close(); open.Wait() })
	return listener.Addr().String()
}

// talk makes a connection, sends a byte and waits for it to come back: a refused
// client certificate shows only then.
func talk(address string, config *tls.Config) (tls.ConnectionState, error) {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	conn, err := tls.DialWithDialer(dialer, "tcp", address, config)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return tls.ConnectionState{}, err
	}
	if _, err := conn.Write([]byte("x")); err != nil {
		return tls.ConnectionState{}, err
	}
	got := make([]byte, 1)
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, []byte("x")) {
		return tls.ConnectionState{}, errors.Join(err, errors.New("no echo"))
	}
	return conn.ConnectionState(), nil
}

func TestTLS(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	admin := "spiffe://mesh.test/ns/shop/sa/admin"
	server := &source{svid: svid(t, admin, "west", root), bundle: bundle(t, root)}
	client := &source{svid: svid(t, web, "east", root), bundle: bundle(t, root)}
	nobody := &source{bundle: bundle(t, root)}
	foreign := &source{svid: svid(t, web, "east", newRoot(t)), bundle: bundle(t, root)}
	id := func(s string) trust.ID {
		id, err := trust.ParseID(s)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	alpn := []string{"isthmus"}
	strict := serve(t, trust.ServerTLS(server, alpn, true, nil))
	lenient := serve(t, trust.ServerTLS(server, alpn, false, nil))
	picky := serve(t, trust.ServerTLS(server, alpn, true, trust.Only(id(admin))))
	name := trust.ClusterDNS("west")
	for _, test := range []struct {
		name, address string
		client        *tls.Config
		want          string // "" means that it works
	}{
		{"both known", strict, trust.ClientTLS(client, name, alpn, trust.Only(id(admin))), ""},
		{"other server name", strict, trust.ClientTLS(client, "p80.a.b.sni.isthmus.internal", alpn, trust.Only(id(admin))), ""},
		{"no certificate, strict", strict, trust.ClientTLS(nobody, name, alpn, nil), "certificate required"},
		{"no certificate, lenient", lenient, trust.ClientTLS(nobody, name, alpn, nil), ""},
		{"wrong certificate, lenient", lenient, trust.ClientTLS(foreign, name, alpn, nil), "bad certificate"},
		{"not authorised by the server", picky, trust.ClientTLS(client, name, alpn, nil), "bad certificate"},
		{"not the server expected", strict, trust.ClientTLS(client, name, alpn, trust.Only(id(web))), "not an identity expected"},
		{"nobody expected", strict, trust.ClientTLS(client, name, alpn, trust.Only()), "not an identity expected"},
		{"of another cluster", strict, trust.ClientTLS(client, trust.ClusterDNS("east"), alpn, trust.Only(id(admin))), "answers for"},
		{"of another alpn", strict, trust.ClientTLS(client, name, []string{"h2"}, nil), "no application protocol"},
		{"tls 1.2", strict, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}, "protocol version"},
	} {
		_, err := talk(test.address, test.client)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
	}
}

// A client that keeps tickets and was let in once is not let in by them when its
// root is gone; the old root's certificate is looked at each time.
func TestNoResumption(t *testing.T) {
	t.Parallel()
	root, next := newRoot(t), newRoot(t)
	server := &source{svid: svid(t, web, "west", next), bundle: bundle(t, root, next)}
	client := &source{svid: svid(t, web, "east", root), bundle: bundle(t, root, next)}
	address := serve(t, trust.ServerTLS(server, nil, true, nil))
	config := trust.ClientTLS(client, trust.ClusterDNS("west"), nil, nil)
	config.SessionTicketsDisabled = false
	config.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	for range 3 {
		state, err := talk(address, config)
		if err != nil {
			t.Fatal(err)
		}
		if state.DidResume {
			t.Error("a session was resumed")
		}
	}
	server.setBundle(bundle(t, next))
	if _, err := talk(address, config); err == nil {
		t.Error("a client of a dropped root came in")
	}
	server.setBundle(bundle(t, root, next))
	if _, err := talk(address, config); err != nil {
		t.Errorf("after the root came back: %v", err)
	}
}

func TestSVIDRoundTrip(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	want := svid(t, web, "east", root)
	key, err := want.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	got, err := trust.ParseSVID(want.ChainPEM(), key)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != want.ID || got.Cluster != "east" || !got.NotAfter.Equal(want.NotAfter) || got.IsZero() {
		t.Errorf("came back as %s of %q until %s", got.ID, got.Cluster, got.NotAfter)
	}
	otherKey, err := svid(t, web, "east", root).KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ chain, key []byte }{
		"another's key": {want.ChainPEM(), otherKey}, "no key": {want.ChainPEM(), nil}, "no chain": {nil, key},
		"truncated chain": {want.ChainPEM()[:900], key}, "truncated key": {want.ChainPEM(), key[:90]},
		"a ca": {bundle(t, root).PEM(), key}, "two keys": {want.ChainPEM(), append(bytes.Clone(key), key...)},
	} {
		if _, err := trust.ParseSVID(test.chain, test.key); !errors.Is(err, trust.ErrInvalidSVID) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
