package proxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/proxy"
	"github.com/isthmus-mesh/isthmus/trust"
)

// hello begins TLS with the gateway as a client of the mesh would.
func hello(t testing.TB, to string, src trust.Source, sni string, alpn []string, dial func(string) (net.Conn, error)) error {
	t.Helper()
	c, err := dial(to)
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	conf := trust.ClientTLS(src, sni, alpn, nil)
	tc := tls.Client(c, conf)
	if err := tc.Handshake(); err != nil {
		return err
	}
	if _, err := tc.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		return err
	}
	_, err = tc.Read(make([]byte, 1)) // the server's verdict on our certificate comes now
	return err
}

func plainDial(to string) (net.Conn, error) { return net.Dial("tcp", to) }

// byteByByte sends every byte alone.
type byteByByte struct{ net.Conn }

func (b byteByByte) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := b.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func slowDial(to string) (net.Conn, error) {
	c, err := net.Dial("tcp", to)
	if err != nil {
		return nil, err
	}
	_ = c.(*net.TCPConn).SetNoDelay(true)
	return byteByByte{c}, nil
}

// The gateway passes exported names only, of callers that speak the mesh's
// protocol; the workload refuses who has no certificate. (faults.md 44, 45)
func TestGatewayPassesExportsOnly(t *testing.T) {
	w := newTwoClusters(t, named(t, "secret"), true, true)
	gw := w.gateway.bound(t, "east-west").String()
	mesh := []string{"isthmus"}
	for name, sni := range map[string]string{
		"exported": reviewsSNI, "upper case": strings.ToUpper(reviewsSNI),
	} {
		if err := hello(t, gw, w.eastID, sni, mesh, plainDial); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := hello(t, gw, w.eastID, reviewsSNI, mesh, slowDial); err != nil {
		t.Errorf("byte by byte: %v", err)
	}
	for name, c := range map[string]struct {
		sni  string
		alpn []string
	}{
		"not exported":    {"p9080.ratings.shop.sni.isthmus.internal", mesh},
		"other port":      {"p9081.reviews.shop.sni.isthmus.internal", mesh},
		"subset":          {"v1.subset.p9080.reviews.shop.sni.isthmus.internal", mesh},
		"bootstrap's own": {"xds-grpc", mesh},
		"suffix alone":    {"sni.isthmus.internal", mesh},
		"no name":         {"", mesh},
		"address":         {"127.0.0.1", mesh},
		"blackhole":       {"blackhole", mesh},
		"no alpn":         {reviewsSNI, nil},
		"other alpn":      {reviewsSNI, []string{"h2"}},
	} {
		if err := hello(t, gw, w.eastID, c.sni, c.alpn, plainDial); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := newAuthority(t, "cluster.local").svid(t, "east", "shop", "productpage")
	for name, src := range map[string]trust.Source{
		"no certificate": source{bundle: w.ca.bundle},
		"wrong root":     source{svid: other.svid, bundle: w.ca.bundle},
		"wrong domain":   source{svid: newAuthority(t, "evil.local").svid(t, "east", "shop", "productpage").svid, bundle: w.ca.bundle},
	} {
		if err := hello(t, gw, src, reviewsSNI, mesh, plainDial); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever is no ClientHello is closed, and does not linger.
func TestGatewayRefusesGarbage(t *testing.T) {
	w := newTwoClusters(t, named(t, "secret"), true, true)
	for name, data := range map[string]string{
		"plaintext": "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n",
		"zeros":     strings.Repeat("\x00", 1000),
		"huge":      "\x16\x03\x01\x40\x00\x01\xff\xff\xff" + strings.Repeat("a", 70000),
		"not hello": "\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",
	} {
		c, err := net.Dial("tcp", w.gateway.bound(t, "east-west").String())
		must(t, err)
		must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		_, _ = io.WriteString(c, data)
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		_ = c.Close()
	}
	eventually(t, "nothing lingers", func() bool { return w.gateway.Connections() == 0 })
}

// The gateway answers the prober in its own name, without a certificate of its.
func TestGatewayProbe(t *testing.T) {
	w := newTwoClusters(t, named(t, "x"), true, true)
	c, err := net.Dial("tcp", w.gateway.bound(t, "east-west").String())
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	tc := tls.Client(c, trust.ClientTLS(source{bundle: w.ca.bundle}, "probe.sni.isthmus.internal", []string{"isthmus"}, trust.Only(w.gatewayID.svid.ID)))
	got, err := io.ReadAll(tc)
	must(t, err)
	if string(got) != "ok" {
		t.Errorf("%q", got)
	}
}

// A server that is not who was expected gets nothing: never plaintext, never a
// request.
func TestPeerIsChecked(t *testing.T) {
	w := newTwoClusters(t, named(t, "x"), true, true)
	c := client(t, w.east, "127.0.0.2", false)
	if code, _ := get(t, c, "GET", nil); code != 200 {
		t.Fatalf("before: %d", code)
	}
	w.east.apply(t, with(w.eastState, edsCluster(reviewsName, reviewsSNI, "spiffe://cluster.local/ns/shop/sa/another")))
	if code, text := get(t, c, "GET", nil); code != 503 || !strings.Contains(text, "not an identity expected") {
		t.Errorf("%d %q", code, text)
	}
}

// Strict takes mTLS only; permissive takes plaintext too, and then says nothing
// of who called.
func TestStrictAndPermissive(t *testing.T) {
	var xfcc http.Header
	at := app(t, func(_ http.ResponseWriter, r *http.Request) { xfcc = r.Header.Clone() })
	for _, strict := range []bool{true, false} {
		w := newTwoClusters(t, at, true, strict)
		req, _ := http.NewRequest("GET", "http://"+loopback(w.west.bound(t, "inbound").Port()).String()+"/", nil)
		req.Header.Set("X-Forwarded-Client-Cert", "URI=spiffe://cluster.local/ns/x/sa/forged")
		tr := &http.Transport{DisableKeepAlives: true}
		res, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Do(req)
		if strict {
			if err == nil {
				t.Errorf("strict took plaintext: %d", res.StatusCode)
			}
		} else {
			must(t, err)
			if res.StatusCode != 200 || xfcc.Get("X-Forwarded-Client-Cert") != "" {
				t.Errorf("permissive: %d %v", res.StatusCode, xfcc)
			}
		}
		if code, _ := get(t, client(t, w.east, "127.0.0.2", false), "GET", nil); code != 200 {
			t.Errorf("strict=%v mtls: %d", strict, code)
		}
	}
}

// Slow clients up to the limit leave room for others from elsewhere, and go.
func TestLimits(t *testing.T) {
	ca := newAuthority(t, "cluster.local")
	p := start(t, ca.svid(t, "west", "isthmus-system", "isthmus-eastwest"), func(o *proxy.Options) { o.MaxConnections, o.MaxHandshakes = 8, 4 })
	gw := gatewayListener(loopback(0))
	gw.ListenerFiltersTimeout = dur(3 * time.Second)
	p.apply(t, newState(gw))
	at := p.bound(t, "east-west").String()
	silent := func(from string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", at)
		must(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	for range 2 {
		silent("127.0.0.5")
	}
	eventually(t, "two connections", func() bool { return p.Connections() == 2 })
	third := silent("127.0.0.5") // more than half of the handshakes
	must(t, third.SetReadDeadline(time.Now().Add(20*time.Second)))
	if _, err := third.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("third of one source: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	dialer := tls.Dialer{
		NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.6")}},
		Config:    trust.ClientTLS(source{bundle: ca.bundle}, "probe.sni.isthmus.internal", []string{"isthmus"}, nil),
	}
	c, err := dialer.DialContext(ctx, "tcp", at)
	must(t, err)
	_ = c.Close()
	eventually(t, "the silent ones are closed", func() bool { return p.Connections() == 0 })
}
