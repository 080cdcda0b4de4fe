package resources_test

import (
	"fmt"
	"net/netip"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// nodes returns the pod ranges of n nodes.
func nodes(n int) []netip.Prefix {
	var out []netip.Prefix
	for i := range n {
		out = append(out, netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)))
	}
	return out
}

func entryOf(t *testing.T, inside []netip.Prefix) *resources.Resource {
	t.Helper()
	r, err := resources.NewEntry(inside, []netip.Addr{netip.MustParseAddr("10.0.0.66")})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func inboundOf(t *testing.T, inside []netip.Prefix) *resources.Resource {
	t.Helper()
	w := &federation.Workload{Key: federation.WorkloadKey{Cluster: "east"}, Inbound: []federation.InboundPort{
		{Port: 80, Protocol: federation.ProtocolAuto, From: []federation.ClusterName{"east"}}, {Port: 81},
	}}
	r, err := resources.NewInbound(resources.InboundOf(w, &federation.Cluster{Name: "east", Inside: inside}))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// chainsOf returns the filter chains of a listener as Envoy compares them, each once.
func chainsOf(t *testing.T, r *resources.Resource) map[string]bool {
	t.Helper()
	var l listenerv3.Listener
	if err := r.Body.UnmarshalTo(&l); err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, c := range l.FilterChains {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		out[string(b)] = true
	}
	return out
}

// Envoy drains the connections of a chain of which anything changed, so a node
// that joins must leave all chains as they are, those of a great cluster aside.
func TestNodeMoreChangesNoChain(t *testing.T) {
	for name, tt := range map[string]struct {
		listener func(*testing.T, []netip.Prefix) *resources.Resource
		nodes    int
		kept     bool
		more     int // chains
	}{
		"entry":          {entryOf, 3, true, 1},
		"entry, most":    {entryOf, 999, true, 1},
		"entry, great":   {entryOf, 1001, false, 0},
		"inbound":        {inboundOf, 3, true, 3},
		"inbound, most":  {inboundOf, 79, true, 3},
		"inbound, great": {inboundOf, 83, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := chainsOf(t, tt.listener(t, nodes(tt.nodes))), chainsOf(t, tt.listener(t, nodes(tt.nodes+1)))
			kept := true
			for c := range before {
				kept = kept && after[c]
			}
			if kept != tt.kept || len(after)-len(before) != tt.more {
				t.Errorf("%d chains and then %d, all of before there: %t", len(before), len(after), kept)
			}
		})
	}
}
