package resources_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/meshtest"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// An empty list of clusters, which nobody should make, is not a list of all.
func TestFromNobodyIsNotEverybody(t *testing.T) {
	w := &federation.Workload{Key: federation.WorkloadKey{Cluster: "east"}, Inbound: []federation.InboundPort{{Port: 80, From: []federation.ClusterName{}}}}
	v := resources.InboundOf(w, nil)
	if got := v.Ports[0].From; !slices.Equal(got, []federation.ClusterName{"east"}) {
		t.Errorf("from %q", got)
	}
}

// What differs in an inbound view differs in its key.
func TestInboundKeyHoldsEverything(t *testing.T) {
	id, err := meshtest.Account("isthmus-system", "isthmus-entry")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for i, v := range []resources.InboundView{
		{},
		{Mode: federation.MTLSStrict},
		{Inside: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}},
		{Entry: id},
		{Ports: []resources.InboundPort{{Port: 80}}},
		{Ports: []resources.InboundPort{{Port: 80, Declared: true}}},
		{Ports: []resources.InboundPort{{Port: 80, NoEntry: true}}},
		{Ports: []resources.InboundPort{{Port: 80, Protocol: federation.ProtocolTCP}}},
		{Ports: []resources.InboundPort{{Port: 80, From: []federation.ClusterName{}}}},
		{Ports: []resources.InboundPort{{Port: 80, From: []federation.ClusterName{"a", "b"}}}},
		{Ports: []resources.InboundPort{{Port: 80, From: []federation.ClusterName{"a b"}}}},
		{Ports: []resources.InboundPort{{Port: 80, From: []federation.ClusterName{"a"}}, {Port: 81}}},
		{Ports: []resources.InboundPort{{Port: 80}, {Port: 81, From: []federation.ClusterName{"a"}}}},
	} {
		if j, ok := seen[v.Key()]; ok {
			t.Errorf("views %d and %d have the key %q", i, j, v.Key())
		}
		seen[v.Key()] = i
	}
}
