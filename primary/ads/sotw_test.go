package ads_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/isthmus-mesh/isthmus/internal/meshtest"
)

// world is a state-of-the-world stream of which the test sees every message.
type world struct {
	t      *testing.T
	stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	in     chan *discoveryv3.DiscoveryResponse
	who    who
	said   bool
}

func (b *bench) sotw(t *testing.T, w who) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(w.context(context.Background()))
	t.Cleanup(cancel)
	s, err := b.dial(t).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r := &world{t: t, stream: s, who: w, in: make(chan *discoveryv3.DiscoveryResponse)}
	go func() {
		for {
			m, err := s.Recv()
			if err != nil {
				return
			}
			select {
			case r.in <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	return r
}

func (w *world) send(m *discoveryv3.DiscoveryRequest) {
	w.t.Helper()
	if !w.said {
		m.Node, w.said = w.who.node(), true
	}
	if err := w.stream.Send(m); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) receive(url string) *discoveryv3.DiscoveryResponse {
	w.t.Helper()
	select {
	case m := <-w.in:
		if m.TypeUrl != url {
			w.t.Fatalf("sent %s, want %s", m.TypeUrl, url)
		}
		return m
	case <-time.After(patience):
		w.t.Fatalf("no %s", url)
	}
	return nil
}

func (w *world) ack(m *discoveryv3.DiscoveryResponse, names ...string) {
	w.t.Helper()
	w.send(&discoveryv3.DiscoveryRequest{TypeUrl: m.TypeUrl, VersionInfo: m.VersionInfo, ResponseNonce: m.Nonce, ResourceNames: names})
}

func (w *world) silence() {
	w.t.Helper()
	select {
	case m := <-w.in:
		w.t.Fatalf("sent without need: %s", m.TypeUrl)
	case <-time.After(100 * time.Millisecond):
	}
}

func (w *world) names(m *discoveryv3.DiscoveryResponse) (out []string) {
	for _, r := range m.Resources {
		out = append(out, nameOf(w.t, r))
	}
	return out
}

// In state-of-the-world a list of xds clusters keeps, in place of what the
// client refused, what it had before; a refused version comes no second time.
func TestSotwHoldsWhatIsRefused(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	c := b.sotw(t, web())
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: cds})
	first := c.receive(cds)
	c.ack(first)
	recast := strings.Replace(twoClusters, "port 9080 http", "port 9080 tcp", 1)
	b.Update(meshtest.Snapshot(t, recast))
	second := c.receive(cds)
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: cds, VersionInfo: first.VersionInfo, ResponseNonce: second.Nonce, ErrorDetail: &rpcstatus.Status{Message: reviews + " is bad"}})
	c.silence()
	b.Update(meshtest.Snapshot(t, recast+"service third.shop@east\n  port 1 tcp\n  vip east 10.96.0.9\n"))
	third := c.receive(cds)
	c.ack(third)
	if got := c.names(third); len(got) != 6 {
		t.Errorf("listed %v", got)
	}
	had, has := bodyOf(c, first, reviews), bodyOf(c, third, reviews)
	if had == "" || had != has {
		t.Error("the refused version was sent again, or nothing in its place")
	}
	c.silence()
}

func bodyOf(w *world, m *discoveryv3.DiscoveryResponse, name string) string {
	for _, r := range m.Resources {
		if nameOf(w.t, r) == name {
			return string(r.Value)
		}
	}
	return ""
}

// Load assignments and routes come alone when they change; a stale request is
// ignored; an unknown type is answered with nothing.
func TestSotwByName(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	c := b.sotw(t, web())
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: eds, ResourceNames: []string{reviews, ratings, "no such"}})
	m := c.receive(eds)
	if got := c.names(m); !slices.Equal(got, []string{reviews, ratings}) {
		t.Errorf("sent %v", got)
	}
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: eds, ResourceNames: nil, ResponseNonce: "stale"})
	c.ack(m, reviews, ratings)
	b.Update(meshtest.Snapshot(t, changed))
	m = c.receive(eds)
	if got := c.names(m); !slices.Equal(got, []string{reviews}) {
		t.Errorf("sent %v", got)
	}
	c.ack(m, ratings) // no longer wants reviews
	b.Update(meshtest.Snapshot(t, twoClusters))
	c.silence()
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: "type.googleapis.com/no.such.Type", ResourceNames: []string{"x"}})
	if m := c.receive("type.googleapis.com/no.such.Type"); len(m.Resources) != 0 {
		t.Errorf("sent %d resources", len(m.Resources))
	}
}

// A client that comes back with the current version is sent nothing, on
// whatever replica.
func TestSotwReconnect(t *testing.T) {
	one, two := start(t, nil), start(t, nil)
	one.Update(meshtest.Snapshot(t, twoClusters))
	two.Update(meshtest.Snapshot(t, meshtest.Shuffled(twoClusters, 7)))
	c := one.sotw(t, web())
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: cds})
	clusters := c.receive(cds)
	c.ack(clusters)
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: eds, ResourceNames: []string{reviews, ratings}})
	assignments := c.receive(eds)

	again := two.sotw(t, web())
	again.send(&discoveryv3.DiscoveryRequest{TypeUrl: cds, VersionInfo: clusters.VersionInfo})
	again.send(&discoveryv3.DiscoveryRequest{TypeUrl: eds, VersionInfo: assignments.VersionInfo, ResourceNames: []string{reviews, ratings}})
	again.silence()
	two.Update(meshtest.Snapshot(t, changed))
	if got := again.names(again.receive(eds)); !slices.Equal(got, []string{reviews}) {
		t.Errorf("sent %v", got)
	}
}

// A state-of-the-world client cannot be told part of the truth, so one that
// comes with a configuration waits until all clusters were read.
func TestSotwWaitsForAllClusters(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, unread))
	c := b.sotw(t, web())
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: cds, VersionInfo: "of another replica"})
	c.silence()
	b.Update(meshtest.Snapshot(t, twoClusters))
	if got := c.names(c.receive(cds)); !slices.Contains(got, ratings) {
		t.Errorf("sent %v", got)
	}
}
