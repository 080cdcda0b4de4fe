package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// plainHTTP is a sidecar with one HTTP service in plaintext.
func plainHTTP(t testing.TB, eps ...ep) (*instance, state) {
	t.Helper()
	p := start(t, nil)
	p.dsts.set("127.0.0.2", reviewsVIP)
	s := newState(outboundCatchAll(anyPort), passthrough(),
		serviceListener(reviewsName, reviewsVIP, httpFilters(manager(wrapperspb.String(reviewsName), false))),
		routes(reviewsName), edsCluster(reviewsName, ""), assignment(reviewsName, eps...))
	p.apply(t, s)
	return p, s
}

func named(t testing.TB, name string) netip.AddrPort {
	return app(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, name)
	})
}

func get(t testing.TB, c *http.Client, method string, body io.Reader) (int, string) {
	t.Helper()
	req, _ := http.NewRequest(method, "http://reviews/", body)
	res, err := c.Do(req)
	must(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(t, err)
	return res.StatusCode, string(text)
}

// A failed connect moves the request, with its body, to another priority.
func TestRetriesElsewhere(t *testing.T) {
	var got atomic.Value
	at := app(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got.Store(string(b))
		_, _ = io.WriteString(w, "remote")
	})
	p, _ := plainHTTP(t, ep{at: dead(t)}, ep{at: dead(t)}, ep{at: at, priority: 1})
	for _, h2 := range []bool{false, true} {
		c := client(t, p, "127.0.0.2", h2)
		for range 5 {
			body := strings.Repeat("x", 20000)
			if code, text := get(t, c, "POST", strings.NewReader(body)); code != 200 || text != "remote" || got.Load() != body {
				t.Fatalf("h2=%v: %d %q", h2, code, text)
			}
		}
	}
}

// A connection that dies before it answers: what may be sent twice is, what may
// not is told why.
func TestResetBeforeAnswer(t *testing.T) {
	killer := tcpApp(t, func(c *net.TCPConn) {
		buf := make([]byte, 4096)
		_, _ = c.Read(buf)
		_ = c.SetLinger(0)
	})
	p, _ := plainHTTP(t, ep{at: killer}, ep{at: named(t, "good"), priority: 1})
	c := client(t, p, "127.0.0.2", false)
	if code, text := get(t, c, "GET", nil); code != 200 || text != "good" {
		t.Errorf("GET: %d %q", code, text)
	}
	if code, text := get(t, c, "POST", strings.NewReader("once")); code != 503 || !strings.Contains(text, "reset reason: connection termination") {
		t.Errorf("POST: %d %q", code, text)
	}
}

// With nothing left the answer says so, and why.
func TestClearErrors(t *testing.T) {
	p, s := plainHTTP(t, ep{at: dead(t)})
	c := client(t, p, "127.0.0.2", false)
	if code, text := get(t, c, "GET", nil); code != 503 || !strings.HasPrefix(text, "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure, transport failure reason: ") || !strings.Contains(text, "refused") {
		t.Errorf("dead: %d %q", code, text)
	}
	p.apply(t, with(s, assignment(reviewsName)))
	if code, text := get(t, c, "GET", nil); code != 503 || text != "no healthy upstream" {
		t.Errorf("empty: %d %q", code, text)
	}
	p.apply(t, with(s, assignment(reviewsName, ep{at: loopback(p.bound(t, "outbound").Port())})))
	if code, text := get(t, c, "GET", nil); code != 508 || !strings.Contains(text, "own listener") {
		t.Errorf("loop: %d %q", code, text)
	}
	r := routes(reviewsName)
	r.VirtualHosts[0].Routes[0].GetRoute().ClusterSpecifier = routes("gone").VirtualHosts[0].Routes[0].GetRoute().ClusterSpecifier
	p.apply(t, with(s, r))
	if code, text := get(t, c, "GET", nil); code != 503 || text != `unknown xds cluster "gone"` {
		t.Errorf("unknown: %d %q", code, text)
	}
}

// Own endpoints first; when they are gone the next priority, without an error;
// and back.
func TestFailoverAndBack(t *testing.T) {
	local, remote := named(t, "local"), named(t, "remote")
	both := []ep{{at: local}, {at: remote, priority: 1}}
	p, s := plainHTTP(t, both...)
	c := client(t, p, "127.0.0.2", false)
	for i, step := range []struct {
		eps  []ep
		want string
	}{{both, "local"}, {[]ep{{at: remote}}, "remote"}, {both, "local"}, {[]ep{{at: local, health: corev3.HealthStatus_UNHEALTHY}, {at: remote, priority: 1}}, "remote"},
		{[]ep{{at: local, health: corev3.HealthStatus_DRAINING}, {at: remote, priority: 1}}, "remote"}} {
		p.apply(t, with(s, assignment(reviewsName, step.eps...)))
		for range 5 {
			if code, text := get(t, c, "GET", nil); code != 200 || text != step.want {
				t.Fatalf("step %d: %d %q, want %q", i, code, text, step.want)
			}
		}
	}
}

// Weights hold exactly for round robin, of endpoints and of localities.
func TestWeights(t *testing.T) {
	a, b, c := named(t, "a"), named(t, "b"), named(t, "c")
	p, _ := plainHTTP(t, ep{at: a, weight: 3, zone: "z1"}, ep{at: b, weight: 1, zone: "z1"}, ep{at: c, weight: 4, zone: "z2"})
	cl := client(t, p, "127.0.0.2", false)
	count := map[string]int{}
	for range 80 {
		_, text := get(t, cl, "GET", nil)
		count[text]++
	}
	if count["a"] != 30 || count["b"] != 10 || count["c"] != 40 {
		t.Errorf("%v", count)
	}
}

// A host that fails three times is ejected, and comes back.
func TestOutlier(t *testing.T) {
	at := dead(t)
	p, s := plainHTTP(t, ep{at: at}, ep{at: named(t, "good")})
	cluster := edsCluster(reviewsName, "")
	cluster.OutlierDetection.BaseEjectionTime, cluster.OutlierDetection.MaxEjectionTime = dur(700*time.Millisecond), dur(700*time.Millisecond)
	p.apply(t, with(s, cluster))
	c := client(t, p, "127.0.0.2", false)
	ejected := func() bool {
		for _, cs := range p.Clusters() {
			for _, h := range cs.Hosts {
				if h.Address == at.String() && h.EjectedUntil != nil {
					return true
				}
			}
		}
		return false
	}
	eventually(t, "ejected", func() bool {
		if code, text := get(t, c, "GET", nil); code != 200 || text != "good" {
			t.Fatalf("%d %q", code, text)
		}
		return ejected()
	})
	ln, err := net.Listen("tcp", at.String())
	must(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "back") })}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	eventually(t, "back in use", func() bool { _, text := get(t, c, "GET", nil); return text == "back" })
	if ejected() {
		t.Error("in use and ejected")
	}
}

// Several HTTP/2 connections are held when streams are few, and each is
// renewed after its number of requests.
func TestConnectionsRenewed(t *testing.T) {
	var conns sync.Map
	release := make(chan struct{})
	at := app(t, func(w http.ResponseWriter, r *http.Request) {
		conns.Store(r.RemoteAddr, true)
		if r.URL.Path == "/hold" {
			<-release
		}
	})
	p, s := plainHTTP(t, ep{at: at})
	cluster := edsCluster(reviewsName, "")
	cluster.TypedExtensionProtocolOptions = httpOptions(true, 8)
	p.apply(t, with(s, cluster))
	count := func() (n int) { conns.Range(func(_, _ any) bool { n++; return true }); return n }
	var wg sync.WaitGroup
	for range 20 {
		c := client(t, p, "127.0.0.2", true)
		wg.Go(func() {
			res, err := c.Get("http://reviews/hold")
			if err == nil {
				_ = res.Body.Close()
			}
		})
	}
	eventually(t, "three connections for twenty streams of eight", func() bool { return count() == 3 })
	close(release)
	wg.Wait()

	conns.Clear()
	once := edsCluster(reviewsName, "")
	once.TypedExtensionProtocolOptions = map[string]*anyProto{}
	for k, v := range httpOptions(true, 8) {
		once.TypedExtensionProtocolOptions[k] = perConnection(t, v, 5)
	}
	p.apply(t, with(s, once))
	c := client(t, p, "127.0.0.2", true)
	for range 20 {
		get(t, c, "GET", nil)
	}
	if n := count(); n != 4 {
		t.Errorf("%d connections for 20 requests, 5 each", n)
	}
	eventually(t, "old connections are closed", func() bool {
		var open int64
		for _, cs := range p.Clusters() {
			open += cs.Conns
		}
		return open <= 1
	})
}

// Traffic goes on without an error while endpoints, routes and clusters change.
func TestNoErrorUnderChange(t *testing.T) {
	a, b := named(t, "a"), named(t, "b")
	p, s := plainHTTP(t, ep{at: a})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var done atomic.Int64
	for i := range 4 {
		c := client(t, p, "127.0.0.2", i%2 == 0)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				res, err := c.Post("http://reviews/", "text/plain", strings.NewReader("body"))
				if err != nil {
					t.Error(err)
					return
				}
				text, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if res.StatusCode != 200 || err != nil {
					t.Errorf("%d %q %v", res.StatusCode, text, err)
					return
				}
				done.Add(1)
			}
		})
	}
	for i := range 60 {
		eps := []ep{{at: a}}
		if i%2 == 1 {
			eps = []ep{{at: b}, {at: a, priority: 1}}
		}
		cluster := edsCluster(reviewsName, "")
		cluster.ConnectTimeout = dur(time.Duration(2000+i/3) * time.Millisecond) // a new cluster now and then
		r := routes(reviewsName)
		r.VirtualHosts[0].Name = fmt.Sprint("v", i)
		p.apply(t, with(s, assignment(reviewsName, eps...), cluster, r))
		before := done.Load()
		eventually(t, "more requests", func() bool { return done.Load() > before+3 || t.Failed() })
	}
	close(stop)
	wg.Wait()
}
