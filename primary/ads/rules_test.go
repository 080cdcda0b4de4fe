package ads_test

import (
	"slices"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"

	"github.com/isthmus-mesh/isthmus/internal/meshtest"
)

// changed is twoClusters after a pod of reviews was replaced.
var changed = strings.Replace(twoClusters, "10.1.0.4", "10.1.0.5", 1)

// settledSidecar returns a client that has everything, and its state in sync.
func settledSidecar(t *testing.T, b *bench) *raw {
	t.Helper()
	c := b.delta(t, web())
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	c.expect(cds)
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{reviews, ratings}})
	c.expect(eds)
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: lds})
	c.expect(lds)
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: rds, ResourceNamesSubscribe: []string{reviews}})
	c.expect(rds)
	return c
}

// One changed endpoint is one load assignment, to those who asked for it.
func TestEndpointChange(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	c, idle := settledSidecar(t, b), b.delta(t, web())
	idle.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	idle.expect(cds)
	b.Update(meshtest.Snapshot(t, changed))
	if got := names(c.expect(eds)); !slices.Equal(got, []string{reviews}) {
		t.Errorf("sent %v", got)
	}
	c.silence()
	idle.silence()
	b.Update(meshtest.Snapshot(t, changed)) // other pointers, same facts
	c.silence()
}

// After a changed xds cluster its load assignment is sent again, though it did
// not change; on a new stream too.
func TestEndpointsFollowTheirCluster(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	c := settledSidecar(t, b)
	other := twoClusters + "\nservice x.y\n  port 1 tcp\n" // changes nothing for reviews
	recast := strings.Replace(other, "port 9080 http", "port 9080 tcp", 1)
	b.Update(meshtest.Snapshot(t, recast))
	if got := names(c.expect(cds)); !slices.Equal(got, []string{reviews}) {
		t.Fatalf("xds clusters %v", got)
	}
	if got := names(c.expect(eds)); !slices.Equal(got, []string{reviews}) {
		t.Fatalf("load assignments %v", got)
	}
	if got := names(c.expect(lds)); !slices.Equal(got, []string{reviews}) {
		t.Fatalf("listeners %v", got)
	}
	c.expect(rds) // the route is gone
	c.silence()

	versions := versionsOf(t, b)
	again := b.delta(t, web())
	stale := map[string]string{reviews: "of another time", ratings: versions[cds][ratings], "passthrough": versions[cds]["passthrough"], "inbound": versions[cds]["inbound"], "inbound|8080||": versions[cds]["inbound|8080||"]}
	again.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, InitialResourceVersions: stale})
	if got := names(again.expect(cds)); !slices.Equal(got, []string{reviews}) {
		t.Fatalf("on reconnect: xds clusters %v", got)
	}
	again.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{reviews, ratings}, InitialResourceVersions: versions[eds]})
	if got := names(again.expect(eds)); !slices.Equal(got, []string{reviews}) {
		t.Fatalf("on reconnect: load assignments %v", got)
	}
	again.silence()
}

// versionsOf returns the versions that a fresh client is sent.
func versionsOf(t *testing.T, b *bench) map[string]map[string]string {
	t.Helper()
	c := b.delta(t, web())
	out := map[string]map[string]string{}
	for _, url := range []string{cds, eds, lds} {
		m := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: url}
		if url == eds {
			m.ResourceNamesSubscribe = []string{reviews, ratings}
		}
		c.send(m)
		out[url] = map[string]string{}
		for _, r := range c.expect(url).Resources {
			out[url][r.Name] = r.Version
		}
	}
	return out
}

// A client that comes with what is current, from another replica, is sent no
// resource.
func TestReconnectResendsNothing(t *testing.T) {
	other, b := start(t, nil), start(t, nil)
	other.Update(meshtest.Snapshot(t, meshtest.Shuffled(twoClusters, 3)))
	b.Update(meshtest.Snapshot(t, twoClusters))
	versions := versionsOf(t, other)
	c := b.delta(t, web())
	for _, url := range []string{cds, eds, lds} {
		m := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, InitialResourceVersions: versions[url]}
		if url == eds {
			m.ResourceNamesSubscribe = []string{reviews, ratings}
		}
		c.send(m)
		if url != eds { // a wildcard is answered, so that the client knows it is in sync
			if m := c.expect(url); len(m.Resources)+len(m.RemovedResources) != 0 {
				t.Errorf("sent %v, removed %v", names(m), m.RemovedResources)
			}
		}
	}
	c.silence()
	b.Update(meshtest.Snapshot(t, changed))
	if got := names(c.expect(eds)); !slices.Equal(got, []string{reviews}) {
		t.Errorf("sent %v", got)
	}
}

// What is gone leaves in reverse order: the listener before what it refers to.
func TestRemovalInReverse(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	c := settledSidecar(t, b)
	without := twoClusters[:strings.Index(twoClusters, "service ratings")] + twoClusters[strings.Index(twoClusters, "workload"):]
	b.Update(meshtest.Snapshot(t, without))
	listener := c.receive()
	if listener.TypeUrl != lds || !slices.Equal(listener.RemovedResources, []string{ratings}) {
		t.Fatalf("first %s, removed %v", listener.TypeUrl, listener.RemovedResources)
	}
	c.silence() // until the client has let go of it
	c.ack(listener)
	if m := c.expect(eds); !slices.Equal(m.RemovedResources, []string{ratings}) {
		t.Errorf("load assignments removed: %v", m.RemovedResources)
	}
	if m := c.expect(cds); !slices.Equal(m.RemovedResources, []string{ratings}) {
		t.Errorf("xds clusters removed: %v", m.RemovedResources)
	}
	c.silence()
}

// A refused version is held; when the resource changes, it is sent again.
func TestRefusedUntilItChanges(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	c := settledSidecar(t, b)
	b.Update(meshtest.Snapshot(t, changed))
	m := c.receive()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResponseNonce: m.Nonce, ErrorDetail: &rpcstatus.Status{Message: reviews + ": not like this"}})
	c.silence()
	if got := value(t, b, "isthmus_xds_nacks_total"); got != 1 {
		t.Errorf("%v nacks counted", got)
	}
	b.Update(meshtest.Snapshot(t, strings.Replace(changed, "10.2.0.4", "10.2.0.5", 1))) // of ratings, behind the gateway
	c.silence()
	b.Update(meshtest.Snapshot(t, strings.Replace(changed, "10.1.0.5", "10.1.0.6", 1)))
	c.expect(eds)
	c.silence()
	if got := b.Proxies()[0].Types[1].Refused; len(got) != 0 {
		t.Errorf("still refused: %v", got)
	}
}

// value returns the sum of a counter or gauge over its labels.
func value(t testing.TB, b *bench, name string) (sum float64) {
	t.Helper()
	families, err := b.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == name {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// Stale and repeated answers settle nothing; changes of subscription in them count.
func TestNonces(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	c := b.delta(t, web())
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	m := c.receive()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, ResponseNonce: "777", ErrorDetail: &rpcstatus.Status{Message: "stale"}})
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResponseNonce: m.Nonce, ResourceNamesSubscribe: []string{reviews}}) // another type's nonce
	assignment := c.receive()
	if assignment.TypeUrl != eds {
		t.Fatalf("sent %s", assignment.TypeUrl)
	}
	c.ack(m)
	c.ack(m)
	c.ack(m)
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResponseNonce: "old", ResourceNamesSubscribe: []string{ratings}})
	c.silence() // one response of a type at a time
	c.ack(assignment)
	if got := names(c.expect(eds)); !slices.Equal(got, []string{ratings}) {
		t.Errorf("sent %v", got)
	}
	if refused := b.Proxies()[0].Types[0].Refused; len(refused) != 0 {
		t.Errorf("a stale answer counted: %v", refused)
	}
	c.silence()
}

func TestUnknownTypes(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	const secret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
	c := b.delta(t, web())
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: secret, ResourceNamesSubscribe: []string{"kubernetes://bank/key"}})
	if m := c.expect(secret); len(m.Resources) != 0 || len(m.RemovedResources) != 1 {
		t.Errorf("sent %v, removed %v", names(m), m.RemovedResources)
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: "no such type"})
	c.expect("no such type")
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	c.expect(cds)
	c.silence()
	for i := range 20 {
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: strings.Repeat("x", i+1)})
	}
	for range 13 {
		c.receive()
	}
	if got := c.end(); got != codes.InvalidArgument {
		t.Errorf("ended with %v", got)
	}
	empty := b.delta(t, web())
	empty.send(&discoveryv3.DeltaDiscoveryRequest{})
	if got := empty.end(); got != codes.InvalidArgument {
		t.Errorf("no type: ended with %v", got)
	}
}

// Wildcard, then names, then neither; unsubscribing while a push is under way.
func TestSubscriptions(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	c := b.delta(t, web())
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, ResourceNamesSubscribe: []string{"*", reviews, "no such"}})
	if m := c.expect(cds); len(m.Resources) != 5 || !slices.Equal(m.RemovedResources, []string{"no such"}) {
		t.Errorf("sent %v, removed %v", names(m), m.RemovedResources)
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, ResourceNamesUnsubscribe: []string{"*"}})
	c.silence()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, ResourceNamesSubscribe: []string{reviews}})
	m := c.receive() // asked for anew, so sent anew
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, ResourceNamesUnsubscribe: []string{reviews, "no such"}})
	c.ack(m)
	b.Update(meshtest.Snapshot(t, strings.Replace(twoClusters, "port 9080 http", "port 9080 tcp", 1)))
	c.silence()
	if got := b.Proxies()[0].Types[0].Sent; got != 0 {
		t.Errorf("%d resources held by a client that asked for none", got)
	}
}
