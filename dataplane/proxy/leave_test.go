package proxy_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A server that shuts down politely under traffic costs no request, though the
// control plane does not know it yet.
func TestUpstreamLeaves(t *testing.T) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "ok")
	})
	srv := &http.Server{Handler: answer, Protocols: new(http.Protocols)}
	srv.Protocols.SetUnencryptedHTTP2(true)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	p, s := plainHTTP(t, ep{at: mustAddr(t, ln.Addr().String())}, ep{at: app(t, answer)})
	cluster := edsCluster(reviewsName, "")
	cluster.TypedExtensionProtocolOptions = httpOptions(true, 100)
	p.apply(t, with(s, cluster))

	stop := make(chan struct{})
	var wg sync.WaitGroup
	var done atomic.Int64
	for range 4 {
		c := client(t, p, "127.0.0.2", true)
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
				text, _ := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if res.StatusCode != 200 {
					t.Errorf("%d %q", res.StatusCode, text)
					return
				}
				done.Add(1)
			}
		})
	}
	eventually(t, "traffic", func() bool { return done.Load() > 50 || t.Failed() })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	must(t, srv.Shutdown(ctx))
	before := done.Load()
	eventually(t, "more traffic", func() bool { return done.Load() > before+50 || t.Failed() })
	close(stop)
	wg.Wait()
}

// More than the circuit breaker allows is answered at once, and says so.
func TestOverflow(t *testing.T) {
	hold := make(chan struct{})
	at := app(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			<-hold
		}
	})
	p, s := plainHTTP(t, ep{at: at})
	cluster := edsCluster(reviewsName, "")
	cluster.CircuitBreakers.Thresholds[0].MaxRequests = u32(1)
	p.apply(t, with(s, cluster))
	c := client(t, p, "127.0.0.2", true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := c.Get("http://reviews/hold"); err == nil {
			_ = res.Body.Close()
		}
	}()
	eventually(t, "one request is held", func() bool {
		for _, cs := range p.Clusters() {
			if cs.Requests == 1 {
				return true
			}
		}
		return false
	})
	if code, text := get(t, c, "GET", nil); code != 503 || !strings.Contains(text, "reset reason: overflow") {
		t.Errorf("%d %q", code, text)
	}
	close(hold)
	<-done
	if code, _ := get(t, c, "GET", nil); code != 200 {
		t.Errorf("after: %d", code)
	}
}
