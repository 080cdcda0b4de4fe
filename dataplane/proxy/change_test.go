package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/isthmus-mesh/isthmus/dataplane/proxy"
)

// talk is a TCP connection that echoes lines.
type talk struct {
	c net.Conn
	r *bufio.Reader
}

func (k *talk) works() bool {
	_ = k.c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(k.c, "x\n")
	line, err := k.r.ReadString('\n')
	return err == nil && line == "x\n"
}

// A change to one service does not touch the connections of another; a service
// that goes takes its own with it, after the time to drain.
func TestChangesAreApart(t *testing.T) {
	echo := tcpApp(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	p := start(t, nil)
	base := newState(outboundCatchAll(anyPort), passthrough())
	names := []string{"outbound|1||a", "outbound|1||b"}
	talks := map[string]*talk{}
	for i, name := range names {
		vip := mustAddr(t, fmt.Sprintf("10.96.0.%d:1", i+20))
		p.dsts.set(fmt.Sprintf("127.0.0.%d", i+20), vip)
		base = with(base, serviceListener(name, vip, tcpFilters(name)), edsCluster(name, ""), assignment(name, ep{at: echo}))
	}
	p.apply(t, base)
	for i, name := range names {
		c := dial(t, p, fmt.Sprintf("127.0.0.%d", i+20))
		talks[name] = &talk{c, bufio.NewReader(c)}
		if !talks[name].works() {
			t.Fatal(name)
		}
	}
	// a's assignment, cluster and listener change; then a goes away.
	l := serviceListener(names[0], mustAddr(t, "10.96.0.20:1"), tcpFilters("passthrough"))
	cluster := edsCluster(names[0], "")
	cluster.ConnectTimeout = dur(time.Second)
	p.apply(t, with(base, assignment(names[0], ep{at: dead(t)}), cluster))
	if !talks[names[0]].works() || !talks[names[1]].works() {
		t.Error("endpoints and cluster changed under a connection")
	}
	p.apply(t, with(base, l))
	if !talks[names[1]].works() {
		t.Error("b was touched by a's listener")
	}
	eventually(t, "a's connection is drained", func() bool { return !talks[names[0]].works() })
	gone := with(base)
	for url := range gone {
		delete(gone[url], names[0])
	}
	p.apply(t, gone)
	if !talks[names[1]].works() {
		t.Error("b was touched by a's end")
	}
}

// A listener may be there before its routes, and a cluster before its hosts:
// the request waits, and sees no gap.
func TestWarming(t *testing.T) {
	p := start(t, nil)
	p.dsts.set("127.0.0.2", reviewsVIP)
	s := newState(outboundCatchAll(anyPort), passthrough(), serviceListener(reviewsName, reviewsVIP, httpFilters(manager(wrapperspb.String(reviewsName), false))), edsCluster(reviewsName, ""))
	p.apply(t, s)
	c := client(t, p, "127.0.0.2", false)
	got := make(chan string, 1)
	go func() {
		res, err := c.Get("http://reviews/")
		if err != nil {
			got <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		got <- string(b)
	}()
	eventually(t, "the request is there", func() bool { return p.Connections() == 1 })
	s = with(s, routes(reviewsName))
	p.apply(t, s)
	p.apply(t, with(s, assignment(reviewsName, ep{at: named(t, "warm")})))
	if text := <-got; text != "warm" {
		t.Errorf("%q", text)
	}
}

// A port that is taken is an error, and everything else works.
func TestBindError(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	p := start(t, nil)
	taken := outboundCatchAll(mustAddr(t, ln.Addr().String()))
	taken.Name = "taken"
	err = p.Apply(newState(outboundCatchAll(anyPort), passthrough(), taken))
	if err == nil || !strings.Contains(err.Error(), "listener taken: listen at") {
		t.Errorf("error %v", err)
	}
	at := tcpApp(t, greeter)
	p.dsts.set("127.0.0.3", at)
	greeted(t, dial(t, p, "127.0.0.3"))
}

// While it drains, a proxy serves new callers, asks all to leave, and ends when
// they have, without a failed request.
func TestDrain(t *testing.T) {
	p, _ := plainHTTP(t, ep{at: named(t, "x")})
	for _, h2 := range []bool{false, true} {
		if code, _ := get(t, client(t, p, "127.0.0.2", h2), "GET", nil); code != 200 {
			t.Fatal(code)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- p.Drain(ctx) }()
	must(t, <-drained)
	c := client(t, p, "127.0.0.2", false)
	res, err := c.Get("http://reviews/")
	must(t, err)
	_ = res.Body.Close()
	if res.StatusCode != 200 || !res.Close {
		t.Errorf("%d close=%v", res.StatusCode, res.Close)
	}
}

// Sockets outlive a change of their listener, and go with it.
func TestSockets(t *testing.T) {
	p := start(t, nil)
	s := newState(outboundCatchAll(loopback(0)), passthrough())
	p.apply(t, s)
	before := p.bound(t, "outbound")
	changed := outboundCatchAll(loopback(0))
	changed.ListenerFiltersTimeout = dur(time.Second)
	p.apply(t, with(s, changed))
	if p.bound(t, "outbound") != before {
		t.Error("bound anew")
	}
	six := outboundCatchAll(loopback(0))
	six.AdditionalAddresses = []*listenerv3.AdditionalAddress{{Address: addr(mustAddr(t, "[::1]:0"))}}
	p.apply(t, with(s, six))
	for _, l := range p.Listeners() {
		if l.Name == "outbound" && len(l.Addresses) != 2 {
			t.Errorf("%+v", l)
		}
	}
	p.apply(t, newState(passthrough()))
	if c, err := net.Dial("tcp", before.String()); err == nil {
		_ = c.Close()
		t.Error("still listening")
	}
}

// Requests are counted under Istio's names at both ends, with who called whom.
func TestMetrics(t *testing.T) {
	w := newTwoClusters(t, named(t, "x"), true, true)
	if code, _ := get(t, client(t, w.east, "127.0.0.2", false), "GET", nil); code != 200 {
		t.Fatal(code)
	}
	for _, c := range []struct {
		at   *instance
		want map[string]string
	}{
		{w.east, map[string]string{"reporter": "source", "source_workload": "client", "source_principal": w.eastID.id(), "destination_principal": w.westID.id(),
			"destination_cluster": "west", "destination_service": "reviews.shop.svc.clusterset.local", "destination_service_name": "reviews",
			"response_code": "200", "request_protocol": "http", "response_flags": "-"}},
		{w.west, map[string]string{"reporter": "destination", "source_principal": w.eastID.id(), "source_cluster": "east", "source_workload_namespace": "shop",
			"destination_principal": w.westID.id(), "connection_security_policy": "mutual_tls", "response_code": "200"}},
	} {
		eventually(t, c.want["reporter"], func() bool { return hasMetric(t, c.at, "istio_requests_total", c.want) })
	}
	eventually(t, "opened at the gateway", func() bool { return hasMetric(t, w.gateway, "istio_tcp_connections_opened_total", nil) })
}

func hasMetric(t testing.TB, in *instance, name string, labels map[string]string) bool {
	t.Helper()
	families, err := in.registry.Gather()
	must(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			have := map[string]string{}
			for _, l := range m.GetLabel() {
				have[l.GetName()] = l.GetValue()
			}
			ok := f.GetName() == name
			for k, v := range labels {
				ok = ok && have[k] == v
			}
			if ok {
				return true
			}
		}
	}
	return false
}

// Silent TCP connections end after their idle time, spliced ones too.
func TestTCPIdle(t *testing.T) {
	at := tcpApp(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	p := start(t, nil, func(o *proxy.Options) {})
	p.dsts.set("127.0.0.3", at)
	l := outboundCatchAll(anyPort)
	l.FilterChains[0].Filters = idleFilters("passthrough", 300*time.Millisecond)
	p.apply(t, newState(l, passthrough()))
	c := dial(t, p, "127.0.0.3")
	k := &talk{c, bufio.NewReader(c)}
	if !k.works() {
		t.Fatal("does not work")
	}
	must(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	began := time.Now()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatal("data")
	}
	if took := time.Since(began); took < 200*time.Millisecond || took > 15*time.Second {
		t.Errorf("ended after %v", took)
	}
}
