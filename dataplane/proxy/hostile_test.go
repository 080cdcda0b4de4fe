package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/trust"
)

// meshClient is a connection of src's straight to the inbound listener, as a
// hostile workload of the mesh would make one. wrap may be nil.
func meshClient(t testing.TB, w *twoClusters, src source, wrap func(net.Conn) net.Conn) *tls.Conn {
	t.Helper()
	raw, err := net.Dial("tcp", loopback(w.west.bound(t, "inbound").Port()).String())
	must(t, err)
	t.Cleanup(func() { _ = raw.Close() })
	must(t, raw.SetDeadline(time.Now().Add(20*time.Second)))
	if wrap != nil {
		raw = wrap(raw)
	}
	return tls.Client(raw, trust.ClientTLS(src, reviewsSNI, []string{"isthmus"}, nil))
}

// A caller cannot have the identity that its proxy vouches for removed by naming
// the header as one of the hop.
func TestConnectionHeaderKeepsIdentity(t *testing.T) {
	var got http.Header
	at := app(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() })
	w := newTwoClusters(t, at, true, true)
	c := meshClient(t, w, w.eastID, nil)
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: reviews\r\nX-Mine: 1\r\nConnection: x-mine, X-Forwarded-Client-Cert, x-request-id\r\n\r\n")
	must(t, err)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	if res.StatusCode != 200 || !strings.Contains(got.Get("X-Forwarded-Client-Cert"), "URI="+w.eastID.id()) || got.Get("X-Request-Id") == "" {
		t.Errorf("%d %v", res.StatusCode, got)
	}
	if got.Get("X-Mine") != "" || got.Get("Connection") != "" {
		t.Errorf("a header of the hop went on: %v", got)
	}
}

// Request trailers pass, in HTTP/1.1 also those that were not announced; what
// would forge an identity does not.
func TestRequestTrailers(t *testing.T) {
	var mu sync.Mutex
	var got http.Header
	at := app(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = r.Trailer.Clone()
	})
	w := newTwoClusters(t, at, true, true)
	check := func(what string) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if got.Get("X-Sum") != "5" || got.Get("X-Forwarded-Client-Cert") != "" || got.Get("X-Isthmus-Peer") != "" {
			t.Errorf("%s: %v", what, got)
		}
	}
	for _, h2 := range []bool{false, true} {
		pr, pw := io.Pipe()
		req, _ := http.NewRequest("POST", "http://reviews/", pr)
		req.Trailer = http.Header{"X-Sum": nil, "X-Forwarded-Client-Cert": nil}
		go func() {
			_, _ = io.WriteString(pw, "12345")
			req.Trailer.Set("X-Sum", "5")
			req.Trailer.Set("X-Forwarded-Client-Cert", "URI=spiffe://cluster.local/ns/x/sa/forged")
			_ = pw.Close()
		}()
		res, err := client(t, w.east, "127.0.0.2", h2).Do(req)
		must(t, err)
		_ = res.Body.Close()
		check(fmt.Sprint("announced, h2=", h2))
	}
	c := meshClient(t, w, w.eastID, nil)
	_, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\nX-Sum: 5\r\nX_Forwarded_Client_Cert: forged\r\nX-Isthmus-Peer: forged\r\n\r\n")
	must(t, err)
	_, err = http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	check("not announced")
	if got["X_forwarded_client_cert"] != nil {
		t.Error("with underscores")
	}
}

// Callers that break off their uploads are no failure of the server's.
func TestBrokenUploadsEjectNobody(t *testing.T) {
	var seen atomic.Int64
	at := app(t, func(_ http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
	})
	p, _ := plainHTTP(t, ep{at: at})
	for i := range 6 {
		c := dial(t, p, "127.0.0.2")
		_, err := io.WriteString(c, "PUT / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 100\r\n\r\npart")
		must(t, err)
		eventually(t, "the request is there", func() bool { return seen.Load() > int64(i) })
		_ = c.Close()
	}
	eventually(t, "all are gone", func() bool { return p.Connections() == 0 })
	for _, c := range p.Clusters() {
		for _, h := range c.Hosts {
			if h.Ejections > 0 || h.Failures > 0 {
				t.Errorf("%+v", h)
			}
		}
	}
	if n := seen.Load(); n != 6 {
		t.Errorf("6 requests arrived as %d", n)
	}
}

// countingServer takes requests in HTTP/1.1 and answers each with answer, then
// closes. It counts those whose head came whole.
func countingServer(t testing.TB, answer string) (at netip.AddrPort, seen *atomic.Int64) {
	seen = new(atomic.Int64)
	return tcpApp(t, func(c *net.TCPConn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		seen.Add(1)
		_, _ = io.WriteString(c, answer)
	}), seen
}

// A request that may have been acted on is sent once unless its method says
// that it may be repeated, whatever the server writes.
func TestPostIsSentOnce(t *testing.T) {
	for _, answer := range []string{"", "HTTP/1.1 20", "REFUSED_STREAM\r\n\r\n", "HTTP/1.1 200 OK\r\nX: client conn not usable\r\n"} {
		at, seen := countingServer(t, answer)
		p, _ := plainHTTP(t, ep{at: at}, ep{at: at, priority: 1})
		c := client(t, p, "127.0.0.2", false)
		if code, text := get(t, c, "POST", strings.NewReader("x")); code != 503 || seen.Load() != 1 {
			t.Errorf("%q: %d %q, sent %d times", answer, code, text, seen.Load())
		}
	}
}

// A neighbour on the link can send packets for any address to a pod, whose rules
// lead them to the sidecar. It passes on only what is for the pod: it is no relay
// to the network, nor to what trusts the pod.
func TestInboundIsForThisPod(t *testing.T) {
	p := start(t, nil)
	p.dsts.set("127.0.0.1", netip.MustParseAddrPort("192.0.2.1:80"))
	p.apply(t, newState(inboundListener(anyPort, 80, false, false), originalDst(inboundName(80), 1338, false)))
	c, err := net.Dial("tcp", loopback(p.bound(t, "inbound").Port()).String())
	must(t, err)
	defer c.Close()
	eventually(t, "refused", func() bool {
		return hasMetric(t, p, "isthmus_proxy_connections_refused_total", map[string]string{"reason": "loop_or_unknown"})
	})
}

// pausing holds back what is written after the first write until released.
type pausing struct {
	net.Conn
	writes  int
	release <-chan struct{}
}

func (p *pausing) Write(b []byte) (int, error) {
	if p.writes++; p.writes > 1 {
		<-p.release
	}
	return p.Conn.Write(b)
}

// A connection that was in its handshake while its filter chain changed is
// served all the same.
func TestHandshakeDuringChange(t *testing.T) {
	for _, http1 := range []bool{true, false} {
		at := tcpApp(t, func(c *net.TCPConn) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		})
		w := newTwoClusters(t, at, http1, true)
		release := make(chan struct{})
		c := meshClient(t, w, w.eastID, func(c net.Conn) net.Conn { return &pausing{Conn: c, release: release} })
		shaken := make(chan error, 1)
		go func() { shaken <- c.Handshake() }()
		eventually(t, "the handshake has begun", func() bool { return w.west.Connections() == 1 })
		time.Sleep(50 * time.Millisecond) // until it waits for our certificate; sooner proves less, and fails nothing
		l := inboundListener(anyPort, at.Port(), true, http1)
		l.FilterChains[0].Name = "changed"
		w.west.apply(t, with(w.westState, l))
		close(release)
		must(t, <-shaken)
		_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
		must(t, err)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != 200 {
			t.Errorf("http=%v: %v %v", http1, res, err)
		}
	}
}

// A proxy that is told to drain while it ends does end.
func TestDrainWhileEnding(t *testing.T) {
	at := named(t, "x")
	for range 15 {
		p, s := plainHTTP(t, ep{at: at})
		get(t, client(t, p, "127.0.0.2", false), "GET", nil)
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { _ = p.Drain(ctx) })
		}
		wg.Go(func() { _ = p.Apply(with(s, edsCluster(reviewsName, "sni"))) })
		wg.Go(p.stop)
		wg.Wait()
		cancel()
	} // start's clean-up waits for the end of each
}

// New callers are served while a proxy begins to drain.
func TestNewCallersWhileDraining(t *testing.T) {
	p, _ := plainHTTP(t, ep{at: named(t, "x")})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c := client(t, p, "127.0.0.2", false)
				if res, err := c.Get("http://reviews/"); err != nil {
					t.Error(err)
				} else {
					_ = res.Body.Close()
				}
				c.CloseIdleConnections()
			}
		})
	}
	for range 20 {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
		_ = p.Drain(ctx)
		cancel()
	}
	close(stop)
	wg.Wait()
}

// A request that waits for the hosts of an xds cluster goes on when that is
// replaced by another of its name.
func TestWarmingClusterIsReplaced(t *testing.T) {
	p, s := plainHTTP(t)
	for url := range s {
		delete(s[url], "none")
	}
	waiting := with(s, edsCluster(reviewsName, ""))
	delete(waiting["type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"], reviewsName)
	changed := edsCluster(reviewsName, "")
	changed.ConnectTimeout = dur(3 * time.Second)
	p.apply(t, newState(outboundCatchAll(anyPort), passthrough()))
	p.apply(t, waiting)
	got := make(chan string, 1)
	began := time.Now()
	go func() {
		res, err := client(t, p, "127.0.0.2", false).Get("http://reviews/")
		if err != nil {
			got <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		got <- res.Status + string(b)
	}()
	eventually(t, "the request is there", func() bool { return p.Connections() == 1 })
	time.Sleep(20 * time.Millisecond) // until it waits
	p.apply(t, with(waiting, changed, assignment(reviewsName, ep{at: named(t, "warm")})))
	if text := <-got; text != "200 OKwarm" {
		t.Errorf("%q after %v", text, time.Since(began))
	}
}

// What an application says for its gRPC status makes no more series than there
// are statuses.
func TestMetricsAreBounded(t *testing.T) {
	var n atomic.Int64
	at := app(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Grpc-Status", strconv.Itoa(int(n.Add(1)*1000)))
	})
	p, _ := plainHTTP(t, ep{at: at})
	c := client(t, p, "127.0.0.2", false)
	for range 30 {
		get(t, c, "GET", nil)
	}
	series := func() int {
		families, err := p.registry.Gather()
		must(t, err)
		for _, f := range families {
			if f.GetName() == "istio_requests_total" {
				return len(f.GetMetric())
			}
		}
		return 0
	}
	eventually(t, "a metric", func() bool { return series() > 0 })
	if got := series(); got > 3 {
		t.Errorf("%d series", got)
	}
}

// One source leaves room for others when it holds as many connections as it can.
func TestSourceLimit(t *testing.T) {
	at := tcpApp(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	p := start(t, nil, func(o *proxyOptions) { o.MaxConnections = 8 })
	p.dsts.set("127.0.0.3", at)
	p.apply(t, newState(outboundCatchAll(anyPort), passthrough()))
	from := func(source string) bool {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
		c, err := d.Dial("tcp", fmt.Sprintf("127.0.0.3:%d", p.bound(t, "outbound").Port()))
		must(t, err)
		t.Cleanup(func() { _ = c.Close() })
		must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		return (&talk{c, bufio.NewReader(c)}).works()
	}
	for i := range 6 {
		if !from("127.0.0.5") {
			t.Fatalf("connection %d refused", i)
		}
	}
	if from("127.0.0.5") {
		t.Error("a seventh of one source")
	}
	if !from("127.0.0.6") {
		t.Error("no room for another")
	}
}

// eager is a listener that has a connection before anybody calls Accept.
type eager struct {
	net.Listener
	first chan net.Conn
}

func (e *eager) Accept() (net.Conn, error) {
	select {
	case c := <-e.first:
		return c, nil
	default:
		return e.Listener.Accept()
	}
}

// A connection that comes the moment a listener opens is served.
func TestFirstConnection(t *testing.T) {
	at := tcpApp(t, greeter)
	for range 10 {
		ends := make(chan net.Conn, 1)
		p := start(t, nil, func(o *proxyOptions) {
			o.OriginalDst = func(net.Conn) (netip.AddrPort, error) { return at, nil }
			o.Listen = func(_ context.Context, network string, addr netip.AddrPort) (net.Listener, error) {
				ln, err := net.Listen(network, "127.0.0.1:0")
				if err != nil {
					return nil, err
				}
				client, err := net.Dial(network, ln.Addr().String())
				if err != nil {
					return nil, err
				}
				server, err := ln.Accept()
				if err != nil {
					return nil, err
				}
				ends <- client
				first := make(chan net.Conn, 1)
				first <- server
				return &eager{ln, first}, nil
			}
		})
		p.apply(t, newState(outboundCatchAll(anyPort), passthrough(), serviceListener("v", reviewsVIP, httpFilters(manager(wrapperspb.String("v"), false)))))
		c := <-ends
		must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		greeted(t, c.(*net.TCPConn))
		_ = c.Close()
	}
}
