package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/trust"
)

// Nothing runs on when a proxy has ended, whatever was open.
func TestNothingStays(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("work", func(t *testing.T) {
		release := make(chan struct{})
		at := app(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hold" {
				_ = http.NewResponseController(w).Flush()
				select {
				case <-release:
				case <-r.Context().Done():
				}
			}
		})
		w := newTwoClusters(t, at, true, true)
		for _, h2 := range []bool{false, true} {
			c := client(t, w.east, "127.0.0.2", h2)
			get(t, c, "GET", nil)
			res, err := c.Get("http://reviews/hold")
			must(t, err)
			t.Cleanup(func() { _ = res.Body.Close() })
		}
		dial(t, w.east, "127.0.0.2")
		w.east.stop()
		w.gateway.stop()
		w.west.stop()
		close(release)
	})
	eventually(t, "goroutines are back", func() bool { return runtime.NumGoroutine() <= before+2 })
}

func BenchmarkRequest(b *testing.B) {
	at := app(b, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	w := newTwoClusters(b, at, true, true)
	plain, _ := plainHTTP(b, ep{at: at})
	for _, c := range []struct {
		name string
		via  *instance
		h2   bool
	}{{"one proxy, plaintext, http1", plain, false}, {"two sidecars and gateway, mtls, http1", w.east, false}, {"two sidecars and gateway, mtls, http2", w.east, true}} {
		b.Run(strings.ReplaceAll(c.name, " ", "_"), func(b *testing.B) {
			cl := client(b, c.via, "127.0.0.2", c.h2)
			for b.Loop() {
				get(b, cl, "GET", nil)
			}
		})
	}
	b.Run("no_proxy", func(b *testing.B) {
		cl := &http.Client{}
		for b.Loop() {
			res, err := cl.Get("http://" + at.String())
			must(b, err)
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
	})
}

func BenchmarkTCP(b *testing.B) {
	at := tcpApp(b, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	w := newTwoClusters(b, at, false, true)
	p := start(b, nil)
	p.dsts.set("127.0.0.2", at)
	p.apply(b, newState(outboundCatchAll(anyPort), passthrough()))
	for name, via := range map[string]*instance{"one_proxy_spliced": p, "two_sidecars_and_gateway_mtls": w.east} {
		for _, size := range []int{1, 1 << 20} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				c := dial(b, via, "127.0.0.2")
				_ = c.SetDeadline(time.Time{})
				msg, got := bytes.Repeat([]byte{1}, size), make([]byte, size)
				b.SetBytes(int64(size))
				for b.Loop() {
					done := make(chan error, 1)
					go func() { _, err := c.Write(msg); done <- err }()
					_, err := io.ReadFull(c, got)
					must(b, errors.Join(err, <-done))
				}
			})
		}
	}
}

func BenchmarkHandshake(b *testing.B) {
	w := newTwoClusters(b, named(b, "x"), true, true)
	gw := w.gateway.bound(b, "east-west").String()
	d := tls.Dialer{Config: trust.ClientTLS(w.eastID, reviewsSNI, []string{"isthmus"}, nil)}
	for b.Loop() {
		c, err := d.DialContext(context.Background(), "tcp", gw)
		must(b, err)
		_ = c.Close()
	}
}
