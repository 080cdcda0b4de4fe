package ads_test

import (
	"slices"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/internal/meshtest"
)

// entered is twoClusters where east's entry gateway serves ratings.
func entered() string {
	return strings.NewReplacer("gateways=192.0.2.1:15443", "gateways=192.0.2.1:15443 inside=10.1.0.0/16",
		"  export west 9081/tcp\n", "  export west 9081/tcp\n  entry east 9081 20001\n").Replace(twoClusters)
}

// An entry gateway is sent its listener, an xds cluster for each port, and the
// load assignments that those name; a new import changes no listener.
func TestEntryGateway(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, entered()))
	c := b.delta(t, entry("east"))
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	if got := names(c.expect(cds)); !slices.Equal(got, []string{"entry|20001"}) {
		t.Errorf("xds clusters %v", got)
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{ratings}})
	if m := c.expect(eds); !slices.Equal(names(m), []string{ratings}) || !strings.Contains(string(m.Resources[0].Resource.Value), "192.0.2.7") {
		t.Errorf("load assignments %v", names(m))
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: lds})
	if got := names(c.expect(lds)); !slices.Equal(got, []string{"entry"}) {
		t.Errorf("listeners %v", got)
	}

	// A further port, and what its xds cluster waits for.
	b.Update(meshtest.Snapshot(t, entered()+"service more.shop\n  port 80 http\n  vip east 10.96.0.9\n  export west 80/http\n  account more\n  count west 80 2\n  entry east 80 20002\n"))
	if got := names(c.expect(cds)); !slices.Equal(got, []string{"entry|20002"}) {
		t.Errorf("xds clusters %v", got)
	}
	const more = "outbound|80||more.shop.svc.clusterset.local"
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{more}})
	if got := names(c.expect(eds)); !slices.Equal(got, []string{more}) {
		t.Errorf("load assignments %v", got)
	}
	c.silence()
	eventually(t, "its kind in the debug view", func() bool { return b.Proxies()[0].Type == "entry" })

	// A changed xds cluster is followed by the load assignment that it names.
	b.Update(meshtest.Snapshot(t, strings.Replace(entered(), "account=ratings", "account=another", 1)))
	if got := names(c.expect(cds)); !slices.Equal(got, []string{"entry|20001"}) {
		t.Errorf("xds clusters %v", got)
	}
	if got := names(c.expect(eds)); !slices.Contains(got, ratings) {
		t.Errorf("load assignments %v", got)
	}
}

// What an entry gateway brings to a server that has not read all clusters stays,
// until they were read.
func TestEntryGatewayKeepsWhatMayBeTrue(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, strings.Replace(unread, " read", "", 1)))
	c := b.delta(t, entry("east"))
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, InitialResourceVersions: map[string]string{"entry|20001": "v1", "entry|20009": "v1"}})
	if m := c.expect(cds); len(m.Resources)+len(m.RemovedResources) != 0 {
		t.Errorf("sent %v, removed %v", names(m), m.RemovedResources)
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: lds, InitialResourceVersions: map[string]string{"entry": "v1"}})
	if m := c.expect(lds); len(m.Resources)+len(m.RemovedResources) != 0 {
		t.Errorf("sent %v, removed %v", names(m), m.RemovedResources)
	}
	b.Update(meshtest.Snapshot(t, entered()))
	if m := c.expect(cds); !slices.Equal(names(m), []string{"entry|20001"}) {
		t.Errorf("sent %v, removed %v", names(m), m.RemovedResources)
	}
	if m := c.expect(lds); !slices.Equal(names(m), []string{"entry"}) {
		t.Errorf("sent %v", names(m))
	}
	if m := c.expect(cds); !slices.Equal(m.RemovedResources, []string{"entry|20009"}) {
		t.Errorf("removed %v", m.RemovedResources)
	}
}

// Two xds clusters wait for one load assignment. Where one of them goes, the
// other waits still, and is sent it even if the client has that from before.
func TestSharedAssignmentIsAwaitedStill(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, entered()+"  entry east 9081 20002\n"))
	other := b.delta(t, entry("east"))
	other.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{ratings}})
	version := other.expect(eds).Resources[0].Version

	c := b.delta(t, entry("east"))
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	if got := names(c.expect(cds)); !slices.Equal(got, []string{"entry|20001", "entry|20002"}) {
		t.Fatalf("xds clusters %v", got)
	}
	b.Update(meshtest.Snapshot(t, entered()))
	if m := c.expect(cds); !slices.Equal(m.RemovedResources, []string{"entry|20002"}) {
		t.Fatalf("sent %v, removed %v", names(m), m.RemovedResources)
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: eds, ResourceNamesSubscribe: []string{ratings}, InitialResourceVersions: map[string]string{ratings: version},
	})
	if got := names(c.expect(eds)); !slices.Equal(got, []string{ratings}) {
		t.Errorf("load assignments %v", got)
	}
}
