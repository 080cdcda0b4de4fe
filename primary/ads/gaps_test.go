package ads_test

import (
	"slices"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/internal/meshtest"
)

// unread is twoClusters on a replica that has not read west and found nothing
// of it in the checkpoint.
const unread = `
cluster east network=blue region=eu local read gateways=192.0.2.1:15443
cluster west network=green
service reviews.shop@east
  port 9080 http
  vip east 10.96.0.7
  endpoint east 10.1.0.4 pod=reviews-1 account=reviews mtls 9080:9080
workload east/shop/web-1 account=web 8080/http
`

const gone = "outbound|1||gone.shop.svc.cluster.local"

// Absent is not empty: what a reconnecting client brings of a cluster that was
// not read yet stays, until it was read.
func TestAbsentIsNotEmpty(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, unread))
	c := b.delta(t, web())
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: lds, InitialResourceVersions: map[string]string{ratings: "v1", gone: "v1"}})
	m := c.expect(lds)
	if slices.Contains(names(m), ratings) {
		t.Fatalf("sent %v", names(m))
	}
	if !slices.Equal(m.RemovedResources, []string{gone}) {
		t.Errorf("removed %v", m.RemovedResources)
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{ratings, "outbound|9||new.shop.svc.clusterset.local"}, InitialResourceVersions: map[string]string{ratings: "v1"}})
	c.silence()

	// West was read: it has ratings, and not the other.
	b.Update(meshtest.Snapshot(t, twoClusters))
	if m := c.expect(eds); !slices.Equal(names(m), []string{ratings}) || len(m.RemovedResources) != 1 {
		t.Errorf("sent %v, removed %v", names(m), m.RemovedResources)
	}
	if got := names(c.expect(lds)); !slices.Equal(got, []string{ratings}) {
		t.Errorf("sent %v", got)
	}

	// Here west was read and has no ratings: now it is gone.
	other := start(t, nil)
	other.Update(meshtest.Snapshot(t, unread))
	d := other.delta(t, web())
	d.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: lds, InitialResourceVersions: map[string]string{ratings: "v1"}})
	d.expect(lds)
	other.Update(meshtest.Snapshot(t, strings.Replace(unread, "cluster west network=green", "cluster west network=green read", 1)))
	if m := d.expect(lds); !slices.Equal(m.RemovedResources, []string{ratings}) {
		t.Errorf("removed %v", m.RemovedResources)
	}
}

// An empty assignment does not take the place of one that may still be true.
func TestNoEmptyAssignmentInstead(t *testing.T) {
	b := start(t, nil)
	empty := unread + "service ratings.shop\n  port 9081 tcp\n  vip east 10.96.0.8\n  account ratings\n"
	b.Update(meshtest.Snapshot(t, empty))
	c := b.delta(t, web())
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{ratings, reviews}, InitialResourceVersions: map[string]string{ratings: "v1"}})
	if got := names(c.expect(eds)); !slices.Equal(got, []string{reviews}) {
		t.Fatalf("sent %v", got)
	}
	c.silence()
	b.Update(meshtest.Snapshot(t, strings.Replace(empty, "cluster west network=green", "cluster west network=green read", 1)))
	if got := names(c.expect(eds)); !slices.Equal(got, []string{ratings}) {
		t.Errorf("sent %v", got)
	}
}

// Nor does that of a name of the own cluster that fails over to others.
func TestNoEmptyAssignmentInsteadOfFailover(t *testing.T) {
	b := start(t, nil)
	empty := strings.NewReplacer("reviews.shop@east", "reviews.shop@east failover", "  endpoint east 10.1.0.4 pod=reviews-1 account=reviews mtls 9080:9080\n", "  account reviews\n").Replace(unread) +
		"service plain.shop@east\n  port 80 tcp\n  vip east 10.96.0.9\n"
	const plain = "outbound|80||plain.shop.svc.cluster.local"
	b.Update(meshtest.Snapshot(t, empty))
	c := b.delta(t, web())
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{reviews, plain}, InitialResourceVersions: map[string]string{reviews: "v1", plain: "v1"}})
	if got := names(c.expect(eds)); !slices.Equal(got, []string{plain}) {
		t.Fatalf("sent %v", got)
	}
	c.silence()
	b.Update(meshtest.Snapshot(t, strings.Replace(empty, "cluster west network=green", "cluster west network=green read", 1)))
	if got := names(c.expect(eds)); !slices.Equal(got, []string{reviews}) {
		t.Errorf("sent %v", got)
	}
}

// A cluster that was not read but is in the checkpoint is known: what it does
// not export is gone.
func TestCheckpointIsKnowledge(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, unread+"service other.shop\n  port 1 tcp\n  vip east 10.96.0.9\n  export west 1/tcp checkpoint\n  account o\n  count west 1 2\n"))
	c := b.delta(t, web())
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: lds, InitialResourceVersions: map[string]string{ratings: "v1"}})
	if m := c.expect(lds); !slices.Equal(m.RemovedResources, []string{ratings}) {
		t.Errorf("removed %v", m.RemovedResources)
	}
}

// The inbound side of a living proxy stays when the mesh loses sight of its pod.
func TestInboundStays(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	c := settledSidecar(t, b)
	b.Update(meshtest.Snapshot(t, twoClusters[:strings.Index(twoClusters, "workload")]))
	c.silence()
}

// Before the first snapshot nobody is told anything.
func TestWaitsForASnapshot(t *testing.T) {
	b := start(t, nil)
	c := b.delta(t, web())
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, InitialResourceVersions: map[string]string{ratings: "v1"}})
	c.silence()
	b.Update(meshtest.Snapshot(t, twoClusters))
	c.expect(cds)
}
