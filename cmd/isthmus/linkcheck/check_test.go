package linkcheck

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/meshstatus"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/precheck"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

func testSide(name string) *side {
	return &side{
		cluster: &cluster.Cluster{Context: name}, bundle: []byte("root"), installed: &clusterset.Installed{Cluster: name, Tag: "v1", TrustDomain: "cluster.local"},
		status: meshstatus.Cluster{Context: name, Cluster: name, Network: name},
	}
}

// good is a link that works in every respect.
func good(to string) meshstatus.Link {
	l := meshstatus.Link{Cluster: to}
	l.State = v1alpha1.LinkConnected
	l.Gateways = []v1alpha1.GatewayStatus{{Address: "192.0.2.1:15443", Answers: true}}
	for _, kind := range []string{v1alpha1.ConditionSecretValid, v1alpha1.ConditionReachable, v1alpha1.ConditionSynced} {
		l.Conditions = append(l.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: "Good"})
	}
	return l
}

// Each fault gives one bad finding, about the right thing, with a next step.
func TestReads(t *testing.T) {
	tests := []struct {
		name string
		what string // of the bad finding; empty for none
		do   func(east, west *side)
	}{
		{"well", "", func(_, _ *side) {}},
		{"no link", "link", func(east, _ *side) { east.status.Links = nil }},
		{"stale", "link", func(east, _ *side) { east.status.Links[0].State = v1alpha1.LinkStale }},
		{"unreachable", "API server", func(east, _ *side) { east.status.Links[0].Conditions[1].Status = metav1.ConditionFalse }},
		{"nobody said", "sync", func(east, _ *side) { east.status.Links[0].Conditions = east.status.Links[0].Conditions[:2] }},
		{"silent gateway", "gateway 192.0.2.1:15443", func(east, _ *side) { east.status.Links[0].Gateways[0].Answers = false }},
		{"no gateway", "gateway", func(east, _ *side) { east.status.Links[0].Gateways = nil }},
		{"one network", "", func(east, west *side) { east.status.Links[0].Gateways, west.status.Network = nil, "east" }},
		{"other roots", "roots", func(_, west *side) { west.bundle = []byte("other") }},
		{"clocks", "clocks", func(_, west *side) { west.skew = time.Minute }},
		{"trust domains", "trust domain", func(_, west *side) { west.installed.TrustDomain = "other" }},
		{"versions", "", func(_, west *side) { west.installed.Tag = "v2" }}, // a warning
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			east, west := testSide("east"), testSide("west")
			east.status.Links = []meshstatus.Link{good("west")}
			tt.do(east, west)
			bad := slices.DeleteFunc(east.reads(west), func(f precheck.Finding) bool { return f.State != precheck.Bad })
			if tt.what == "" {
				if len(bad) > 0 {
					t.Errorf("bad: %+v", bad)
				}
				return
			}
			if len(bad) != 1 || bad[0].What != tt.what || bad[0].Next == "" {
				t.Errorf("bad: %+v", bad)
			}
		})
	}
}
