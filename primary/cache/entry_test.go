package cache_test

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/meshtest"
	"github.com/isthmus-mesh/isthmus/primary/cache"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

const entered = `
cluster east network=blue region=eu local read inside=10.1.0.0/16
cluster west network=green read gateways=192.0.2.7:15443
service a.shop
  port 80 http
  vip east 10.96.0.7
  export west 80/http
  endpoint west 10.2.0.4 pod=a-1 account=a mtls 80:80
  entry east 80 20001
service b.shop
  port 80 http
  vip east 10.96.0.8
  export west 80/http
  endpoint west 10.2.0.5 pod=b-1 account=b mtls 80:80
`

// The entry listener is made anew where other callers may come, and for nothing
// else; a new import is an xds cluster and a load assignment.
func TestEntryListenerFollowsCallers(t *testing.T) {
	f := follow(t, cache.Entry, entered)
	both := entered + "  entry east 80 20002\n"
	f.expect(both, "+cds entry|20002", "+eds outbound|80||b.shop.svc.clusterset.local")
	f.expect(strings.Replace(both, "10.2.0.5", "10.2.0.6", 1))
	f.expect(strings.Replace(both, "inside=10.1.0.0/16", "inside=10.1.0.0/16,192.0.2.30/32", 1), "~lds entry")
	f.expect(strings.Replace(both, "inside=10.1.0.0/16", "inside=10.1.0.0/16,192.0.2.30/32 shutout=10.1.0.5", 1), "~lds entry")
	f.expect(strings.Replace(both, "inside=10.1.0.0/16", "inside=10.1.0.0/16 entryfrom=10.0.0.0/8 shutout=10.1.0.5", 1), "~lds entry")
	f.expect(strings.Replace(both, "inside=10.1.0.0/16", "inside=10.1.0.0/16,192.0.2.31/32 entryfrom=10.0.0.0/8 shutout=10.1.0.5", 1)) // only who is inside
	f.expect(entered, "~lds entry", "-cds entry|20002", "-eds outbound|80||b.shop.svc.clusterset.local")
	// Of a cluster that was not read nothing is known, so the listener stays.
	before := f.member.State().Get(resources.Listener, "entry")
	f.cache.Update(evolve(t, f.mesh, strings.Replace(entered, " read inside=10.1.0.0/16", "", 1)))
	if now := f.member.State().Get(resources.Listener, "entry"); now != before {
		t.Error("what is not known has closed the entry gateway")
	}
}

// Where a cluster was not read from the start there is no entry listener yet,
// and what a gateway brings is left to it.
func TestEntryBeforeItsClusterWasRead(t *testing.T) {
	f := follow(t, cache.Entry, strings.Replace(entered, " read inside=10.1.0.0/16", "", 1))
	state := f.member.State()
	if r := state.Get(resources.Listener, "entry"); r != nil {
		t.Error("there is a listener")
	}
	for _, name := range []string{"entry", "entry|20007", "outbound|80||b.shop.svc.clusterset.local"} {
		if !state.Withheld(name, true) || state.Withheld(name, false) {
			t.Errorf("%s: withheld %v where it is claimed, %v where not", name, state.Withheld(name, true), state.Withheld(name, false))
		}
	}
	f.cache.Update(meshtest.Snapshot(t, entered))
	state = f.member.State()
	if state.Get(resources.Listener, "entry") == nil || state.Withheld("entry", true) || state.Withheld("entry|20007", true) {
		t.Error("still waiting")
	}
}

// A port that passes to another service at once is there after it, whichever
// order they stand in; of two that claim one, the first has it and the other is
// told, until it is free.
func TestEntryPortPassesOn(t *testing.T) {
	f := follow(t, cache.Entry, entered)
	toB := strings.Replace(entered, "  entry east 80 20001\n", "", 1) + "  entry east 80 20001\n"
	want := []string{"~cds entry|20001", "-eds outbound|80||a.shop.svc.clusterset.local", "+eds outbound|80||b.shop.svc.clusterset.local"}
	f.expect(toB, want...)
	f.expect(entered, "~cds entry|20001", "+eds outbound|80||a.shop.svc.clusterset.local", "-eds outbound|80||b.shop.svc.clusterset.local")

	b := federation.ServiceKey{Namespace: "shop", Name: "b"}
	f.expect(entered + "  entry east 80 20001\n")
	if got := f.cache.Problems()[b]; !strings.Contains(got, "entry port 20001") {
		t.Errorf("problem %q", got)
	}
	f.expect(toB, want...)
	if got := f.cache.Problems(); len(got) != 0 {
		t.Errorf("problems %v", got)
	}
}
