package cache_test

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/meshtest"
	"github.com/isthmus-mesh/isthmus/primary/cache"
)

const served = `
cluster east network=blue local read gateways=192.0.2.1:15443 controlplanes=10.1.0.2
cluster west network=green read gateways=192.0.2.7:15443
`

// The gateway of a primary lets its remotes through to isthmusd, by exact server
// names and on two ports of their own; that of another cluster, and one whose
// primary serves nobody any more, does not.
func TestGatewayOfAPrimary(t *testing.T) {
	s := meshtest.Snapshot(t, served)
	c := cache.New(nil)
	c.Update(s)
	east := member(c, s, cache.EastWest, federation.WorkloadKey{Cluster: "east"})
	west := member(c, s, cache.EastWest, federation.WorkloadKey{Cluster: "west"})
	before := words(t, east.State())
	c.Serve("east", []federation.ClusterName{"north", "west"})
	const want = `cds isthmusd|15012 EDS
cds isthmusd|15017 EDS
eds isthmusd|15012 priority=0 10.1.0.2:15012 weight=1 cluster=east via=direct
eds isthmusd|15017 priority=0 10.1.0.2:15017 weight=1 cluster=east via=direct
lds discovery 0.0.0.0:15012 :::15012
  chain sni=north.clusters.isthmus.internal,west.clusters.isthmus.internal transport=tls tcp -> isthmusd|15012
`
	const webhook = `lds webhook 0.0.0.0:15017 :::15017
  chain sni=isthmusd.isthmus-system.svc transport=tls tcp -> isthmusd|15017`
	got := words(t, east.State())
	if !strings.Contains(got, want) || !strings.Contains(got, webhook) {
		t.Errorf("got:\n%s\nwant in it:\n%s%s", got, want, webhook)
	}
	if strings.Contains(words(t, west.State()), "isthmusd") {
		t.Errorf("west's gateway leads to isthmusd:\n%s", words(t, west.State()))
	}
	state := east.State()
	c.Serve("east", []federation.ClusterName{"north", "west"})
	c.Update(s)
	if east.State().Shared != state.Shared {
		t.Error("saying it again changes something")
	}
	c.Serve("east", nil)
	if got := words(t, east.State()); got != before {
		t.Errorf("what nobody needs any more stays:\n%s", got)
	}
}
