package plan_test

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/sandbox/plan"
)

func TestNoAddressIsUsedTwice(t *testing.T) {
	var clusters []plan.Named
	for i := range plan.MaxClusters {
		clusters = append(clusters, plan.Named{Name: string(rune('a' + i)), Network: []string{"", "shared"}[i%2]})
	}
	p, err := plan.New(clusters)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range p.Clusters {
		if !plan.Underlay.Contains(c.NodeAddress) || c.LoadBalancers.Contains(c.NodeAddress) || !c.Services.Contains(c.DNS) || !c.Pods.Contains(c.PodGateway()) {
			t.Errorf("layout of %s: %+v", c.Name, c)
		}
		for _, other := range p.Clusters[:i] {
			if c.NodeAddress == other.NodeAddress || c.LoadBalancers.Contains(other.NodeAddress) || c.LoadBalancers.Overlaps(other.LoadBalancers) ||
				c.Pods.Overlaps(other.Pods) || c.Services.Overlaps(other.Services) || c.Pods.Overlaps(other.Services) || c.Services.Overlaps(other.Pods) {
				t.Errorf("%s and %s share addresses", c.Name, other.Name)
			}
		}
		if got, want := len(p.Neighbours(c)), []int{0, plan.MaxClusters/2 - 1}[i%2]; got != want {
			t.Errorf("%s has %d neighbours, want %d", c.Name, got, want)
		}
	}
}

func TestCutValidate(t *testing.T) {
	p, err := plan.New([]plan.Named{{Name: "a"}, {Name: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	cases := map[plan.Cut]bool{
		{From: "a", To: "b", What: plan.API, Mode: plan.Drop}:           true,
		{From: "a", To: "b", What: plan.Port(15443), Mode: plan.Refuse}: true,
		{From: "a", To: "a", What: plan.API, Mode: plan.Drop}:           false,
		{From: "a", To: "c", What: plan.API, Mode: plan.Drop}:           false,
		{From: "a", To: "b", What: "everything", Mode: plan.Drop}:       false,
		{From: "a", To: "b", What: plan.API, Mode: "maybe"}:             false,
		{From: "a", To: "b", What: "port:0", Mode: plan.Drop}:           false,
		{From: "a", To: "b", What: "port:70000", Mode: plan.Drop}:       false,
		{From: "a", To: "b", What: "port:1; flush", Mode: plan.Drop}:    false,
		{}: false,
	}
	for cut, want := range cases {
		if err := cut.Validate(p); (err == nil) != want {
			t.Errorf("%+v: %v", cut, err)
		}
	}
}
