package ingest

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
)

// From where entry gateways may be called changes with nodes, with pods outside
// of their ranges and with shut namespaces, and with no other pod.
func TestInsideIsTouchedSeldom(t *testing.T) {
	in := NewInputs(testDomain(t), "isthmus-system")
	var ch Changes
	for _, c := range []federation.ClusterName{"east", "west"} {
		in.SetCluster(ClusterState{Name: c, Local: c == "east", Served: c == "east", Read: true, Reachable: true}, &ch)
		in.Set(c, &Node{Node: "n", CIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}, &ch)
	}
	in.Set("east", &Namespace{Namespace: "closed", Refused: true}, &ch)
	prev := Build(nil, in, ch)
	pod := func(namespace, addr string, host bool) *Pod {
		return &Pod{Name: Name{namespace, "p"}, Addrs: []netip.Addr{netip.MustParseAddr(addr)}, HostNetwork: host}
	}
	for _, c := range []struct {
		what    string
		cluster federation.ClusterName
		pod     *Pod
		touched bool
	}{
		{"within the range", "east", pod("shop", "10.1.0.1", false), false},
		{"outside", "east", pod("shop", "172.31.0.1", false), true},
		{"no address of a pod", "east", pod("shop", "169.254.169.254", false), true}, // the one before goes
		{"still none", "east", pod("shop", "127.0.0.1", false), false},
		{"of a shut namespace", "east", pod("closed", "10.1.0.2", false), true},
		{"of its host network", "east", pod("closed", "10.1.0.2", true), true}, // the one before goes
		{"of another cluster", "west", pod("shop", "172.31.0.9", false), false},
	} {
		var ch Changes
		in.Set(c.cluster, c.pod, &ch)
		next := Build(prev, in, ch)
		if ch.Clusters != c.touched || (next.Cluster("east") != prev.Cluster("east")) != c.touched || ch.All {
			t.Errorf("%s: changes %+v, east %+v", c.what, ch, next.Cluster("east"))
		}
		prev = next
	}
	if c := prev.Cluster("east"); len(c.ShutOut) != 0 || !slices.Equal(c.Inside, []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}) || prev.Cluster("west").Inside != nil {
		t.Errorf("east %+v, west %+v", c, prev.Cluster("west"))
	}
}

// Ranges given by hand say who may call entry gateways, and nothing about who is
// inside.
func TestEntryFrom(t *testing.T) {
	build := func(from ...netip.Prefix) *federation.Snapshot {
		in := NewInputs(testDomain(t), "isthmus-system")
		in.EntryFrom = from
		var ch Changes
		in.SetCluster(ClusterState{Name: "east", Local: true, Served: true, Read: true, Reachable: true}, &ch)
		in.SetCluster(ClusterState{Name: "west", Read: true, Reachable: true}, &ch)
		in.Set("east", &Node{Node: "n", CIDRs: prefixes("10.1.0.0/16")}, &ch)
		in.Set("east", &Pod{Name: Name{"shop", "p"}, Addrs: []netip.Addr{netip.MustParseAddr("172.31.0.1")}}, &ch)
		return Build(nil, in, ch)
	}
	given := build(prefixes("10.2.9.0/24", "10.2.3.4/16")...)
	if c := given.Cluster("east"); !slices.Equal(c.EntryFrom, prefixes("10.2.0.0/16")) || !slices.Equal(c.Inside, prefixes("10.1.0.0/16", "172.31.0.1/32")) {
		t.Errorf("entry from %v, inside %v", c.EntryFrom, c.Inside)
	}
	if c := given.Cluster("west"); c.EntryFrom != nil {
		t.Errorf("west: entry from %v", c.EntryFrom)
	}
	if c := build().Cluster("east"); c.EntryFrom != nil || len(c.Inside) != 2 {
		t.Errorf("none given: entry from %v, inside %v", c.EntryFrom, c.Inside)
	}
	if c := build([]netip.Prefix{}...).Cluster("east"); c.EntryFrom == nil {
		t.Error("an empty list lets everybody in")
	}
}
