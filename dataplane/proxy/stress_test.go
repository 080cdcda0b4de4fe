package proxy_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"
)

// stressVIPs are closed ports: without their listeners, calls pass through to them.
var stressVIPs = []netip.AddrPort{netip.MustParseAddrPort("127.9.9.9:9"), netip.MustParseAddrPort("127.9.9.9:10")}

// randomState is one of many configurations of two services, one HTTP and one
// TCP; whatever it is made of changes by chance, or is left out.
func randomState(rng *rand.Rand, hosts []netip.AddrPort) state {
	s := newState(outboundCatchAll(anyPort), passthrough())
	for i, name := range []string{reviewsName, "outbound|9081||tcp"} {
		maybe := func(often int) bool { return rng.IntN(often) > 0 }
		if maybe(8) {
			filters := tcpFilters(name)
			if i == 0 {
				m := manager(wrapperspb.String(name), false)
				m.ServerName = []string{"isthmus", "other"}[rng.IntN(2)]
				filters = httpFilters(m)
			}
			s = with(s, serviceListener(name, stressVIPs[i], filters))
		}
		if maybe(8) {
			s = with(s, routes(name))
		}
		if maybe(8) {
			c := edsCluster(name, "")
			c.ConnectTimeout = dur(time.Duration(1+rng.IntN(2)) * time.Second)
			s = with(s, c)
		}
		if maybe(8) {
			var eps []ep
			for _, at := range hosts {
				if maybe(2) {
					eps = append(eps, ep{at: at, weight: uint32(1 + rng.IntN(3)), zone: []string{"a", "b"}[rng.IntN(2)]})
				}
			}
			s = with(s, assignment(name, eps...))
		}
	}
	return s
}

// Under random changes, with traffic and every page looked at, nothing races,
// blocks or stays. What callers get is an answer or an end, in time.
func TestStress(t *testing.T) {
	at := named(t, "x")
	hosts := []netip.AddrPort{at, named(t, "y"), named(t, "z"), dead(t)}
	p := start(t, nil, func(o *proxyOptions) { o.DrainTimeout, o.Log = 200*time.Millisecond, nil })
	p.dsts.set("127.0.0.2", stressVIPs[0])
	p.dsts.set("127.0.0.3", stressVIPs[1])
	rng := rand.New(rand.NewPCG(1, 2))
	p.apply(t, randomState(rng, hosts))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	var clients []*http.Client
	until := func(do func()) {
		wg.Go(func() {
			for ctx.Err() == nil {
				do()
			}
		})
	}
	for _, local := range []string{"127.0.0.2", "127.0.0.3"} {
		for _, h2 := range []bool{false, true} {
			c := client(t, p, local, h2)
			clients = append(clients, c)
			until(func() {
				res, err := c.Post("http://reviews/", "text/plain", strings.NewReader(strings.Repeat("x", 1+rand.IntN(100000))))
				if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
					t.Errorf("no answer in time: %v", err)
				}
				if err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
			})
		}
	}
	until(func() {
		p.Listeners()
		p.Clusters()
		_, err := p.registry.Gather()
		must(t, err)
		time.Sleep(time.Millisecond)
	})
	until(func() {
		if err := p.Apply(randomState(rng, hosts)); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
	})
	wg.Wait()
	for _, c := range clients {
		c.CloseIdleConnections()
	}

	p.apply(t, with(newState(outboundCatchAll(anyPort), passthrough(), serviceListener(reviewsName, stressVIPs[0], httpFilters(manager(wrapperspb.String(reviewsName), false)))),
		routes(reviewsName), edsCluster(reviewsName, ""), assignment(reviewsName, ep{at: at})))
	if code, text := get(t, client(t, p, "127.0.0.2", false), "GET", nil); code != 200 || text != "x" {
		t.Errorf("afterwards: %d %q", code, text)
	}
	ctx2, cancel2 := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel2()
	if err := p.Drain(ctx2); err != nil {
		t.Error(err)
	}
	for _, c := range p.Clusters() {
		if c.Requests != 0 || c.Pending != 0 {
			t.Errorf("%+v", c)
		}
	}
}
