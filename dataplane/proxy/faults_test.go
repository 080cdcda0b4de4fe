package proxy_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
)

// freezer passes bytes on until it is frozen; then nothing comes through and
// nothing ends, as when a gateway's packets are dropped.
type freezer struct {
	to     string
	frozen chan struct{}
	mu     sync.Mutex
	open   []net.Conn
}

func newFreezer(t testing.TB, to netip.AddrPort) (*freezer, netip.AddrPort) {
	t.Helper()
	f := &freezer{to: to.String(), frozen: make(chan struct{})}
	at := tcpApp(t, f.serve)
	t.Cleanup(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, c := range f.open {
			_ = c.Close()
		}
	})
	return f, at
}

func (f *freezer) keep(c net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open = append(f.open, c)
}

func (f *freezer) serve(c *net.TCPConn) {
	f.keep(c)
	up, err := net.Dial("tcp", f.to)
	if err != nil {
		return
	}
	f.keep(up)
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, up}, {up, c}} {
		wg.Go(func() {
			buf := make([]byte, 4096)
			for {
				n, err := way[0].Read(buf)
				if err != nil {
					return
				}
				select {
				case <-f.frozen: // swallow
				default:
					_, _ = way[1].Write(buf[:n])
				}
			}
		})
	}
	wg.Wait()
}

// A gateway whose packets vanish: the held HTTP/2 connection is found dead by
// pings, and its requests go elsewhere. (faults.md 17)
func TestBlackHole(t *testing.T) {
	f, hole := newFreezer(t, named(t, "far"))
	p, s := plainHTTP(t, ep{at: hole}, ep{at: named(t, "near"), priority: 1})
	cluster := edsCluster(reviewsName, "")
	cluster.ConnectTimeout = dur(2 * time.Second)
	for k, v := range httpOptions(true, 8) {
		var o upstreamhttpv3.HttpProtocolOptions
		must(t, v.UnmarshalTo(&o))
		keepalive := o.GetExplicitHttpConfig().GetHttp2ProtocolOptions().GetConnectionKeepalive()
		keepalive.Interval, keepalive.Timeout = dur(200*time.Millisecond), dur(600*time.Millisecond)
		cluster.TypedExtensionProtocolOptions[k] = anyOf(&o)
	}
	p.apply(t, with(s, cluster))
	c := client(t, p, "127.0.0.2", true)
	if _, text := get(t, c, "GET", nil); text != "far" {
		t.Fatal(text)
	}
	close(f.frozen)
	began := time.Now()
	for range 5 {
		if code, text := get(t, c, "GET", nil); code != 200 || text != "near" {
			t.Fatalf("%d %q", code, text)
		}
	}
	if took := time.Since(began); took > 18*time.Second {
		t.Errorf("took %v", took)
	}
}

// A gateway that takes the connection and never speaks TLS, one that speaks no
// TLS, and one with a stranger's certificate are failures to connect: the next
// priority answers, and plaintext is never sent. (faults.md 18)
func TestGatewayWithoutTLS(t *testing.T) {
	stranger := newAuthority(t, "cluster.local").svid(t, "west", "shop", "reviews")
	for name, serve := range map[string]func(*net.TCPConn){
		"silent":    func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) },
		"plaintext": func(c *net.TCPConn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n") },
		"stranger": func(c *net.TCPConn) {
			s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{stranger.svid.Certificate}, NextProtos: []string{"isthmus"}})
			if s.Handshake() == nil {
				_, _ = io.Copy(io.Discard, s)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTwoClusters(t, named(t, "right"), true, true)
			cluster := edsCluster(reviewsName, reviewsSNI, w.westID.id())
			cluster.ConnectTimeout = dur(1500 * time.Millisecond)
			w.east.apply(t, with(w.eastState, cluster, assignment(reviewsName, ep{at: tcpApp(t, serve), mtls: true},
				ep{at: w.gateway.bound(t, "east-west"), mtls: true, priority: 1})))
			c := client(t, w.east, "127.0.0.2", false)
			for range 2 {
				if code, text := get(t, c, "POST", strings.NewReader("x")); code != 200 || text != "right" {
					t.Fatalf("%d %q", code, text)
				}
			}
		})
	}
}

// A port of which nothing is known carries HTTP as HTTP.
func TestAutoHTTP(t *testing.T) {
	at := app(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto+r.Header.Get("X-Request-Id"))
	})
	p, s := plainHTTP(t, ep{at: at})
	p.apply(t, with(s, autoListener(reviewsName, reviewsVIP)))
	for h2, proto := range map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"} {
		if code, text := get(t, client(t, p, "127.0.0.2", h2), "GET", nil); code != 200 || !strings.HasPrefix(text, proto) || len(text) != len(proto)+36 {
			t.Errorf("%d %q", code, text)
		}
	}
}

// A permissive port takes the application's own TLS as it is.
func TestOwnTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "own") }))
	defer srv.Close()
	at := srv.Listener.Addr().(*net.TCPAddr).AddrPort()
	w := newTwoClusters(t, at, true, false)
	l := inboundListener(anyPort, at.Port(), false, true)
	l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{
		FilterChainMatch: &listenerv3.FilterChainMatch{DestinationPort: u32(uint32(at.Port())), TransportProtocol: "tls"},
		Filters:          tcpFilters(inboundName(at.Port())),
	})
	w.west.apply(t, with(w.westState, l))
	tr := srv.Client().Transport.(*http.Transport).Clone()
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Get("https://" + loopback(w.west.bound(t, "inbound").Port()).String())
	must(t, err)
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); string(text) != "own" {
		t.Errorf("%q", text)
	}
}

// Headers that never end are cut off.
func TestSlowHeaders(t *testing.T) {
	p := start(t, nil, func(o *proxyOptions) { o.HeaderTimeout = 300 * time.Millisecond })
	p.dsts.set("127.0.0.2", reviewsVIP)
	p.apply(t, newState(outboundCatchAll(anyPort), passthrough(), serviceListener(reviewsName, reviewsVIP, httpFilters(manager(inlineRoutes(reviewsName), false))),
		edsCluster(reviewsName, ""), assignment(reviewsName, ep{at: named(t, "x"), health: corev3.HealthStatus_HEALTHY})))
	c := dial(t, p, "127.0.0.2")
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX-")
	must(t, err)
	began := time.Now()
	_, _ = io.ReadAll(c)
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("cut off after %v", took)
	}
	eventually(t, "gone", func() bool { return p.Connections() == 0 })
}
