package meshstatus

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
)

func TestHealthy(t *testing.T) {
	for name, change := range map[string]func(*Cluster){
		"":                   func(*Cluster) {},
		"not asked":          func(c *Cluster) { c.Error = "refused" },
		"not installed":      func(c *Cluster) { c.Cluster = "" },
		"control plane away": func(c *Cluster) { c.ControlPlane.Ready = 0 },
		"gateway away":       func(c *Cluster) { c.Gateway.Ready = 0 },
		"entry gateway away": func(c *Cluster) { c.Entry.Ready = 0 },
		"stale link":         func(c *Cluster) { c.Links[0].State = v1alpha1.LinkStale },
		"refusals":           func(c *Cluster) { c.Proxies.Refusing = 1 },
	} {
		c := Cluster{Cluster: "east", ControlPlane: Workload{1, 1}, Gateway: Gateway{Workload: Workload{1, 1}}, Entry: Entry{Workload: Workload{1, 1}}, Links: []Link{{Cluster: "west"}}}
		c.Links[0].State = v1alpha1.LinkConnected
		change(&c)
		if got := c.healthy(); got != (name == "") {
			t.Errorf("%q: healthy %v", name, got)
		}
	}
	none := Cluster{Cluster: "east", ControlPlane: Workload{1, 1}}
	if !none.healthy() {
		t.Error("a cluster installed without a gateway is not ill")
	}
}
