package cache_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/meshtest"
	"github.com/isthmus-mesh/isthmus/primary/cache"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// follower sees what one proxy is sent, change by change.
type follower struct {
	t      *testing.T
	cache  *cache.Cache
	member *cache.Member
	mesh   *federation.Snapshot
}

func follow(t *testing.T, kind cache.Kind, mesh string) *follower {
	t.Helper()
	f := &follower{t: t, cache: cache.New(nil), mesh: meshtest.Snapshot(t, mesh)}
	f.cache.Update(f.mesh)
	f.member = member(f.cache, f.mesh, kind, federation.WorkloadKey{Cluster: "east", Namespace: "shop", Name: "web-1"})
	<-f.member.Changed() // by joining
	return f
}

// becomes brings the mesh to text and returns the resources that are not the
// same as before, sorted: "+TYPE NAME", "-TYPE NAME" or "~TYPE NAME". The cache
// must have named them, and nothing else.
func (f *follower) becomes(text string) []string {
	f.t.Helper()
	before := f.member.State()
	f.mesh = evolve(f.t, f.mesh, text)
	f.cache.Update(f.mesh)
	now := f.member.State()
	var out []string
	for typ := range resources.Type(resources.TypeCount) {
		for name, r := range now.Shared.All(typ) {
			switch before.Shared.Get(typ, name) {
			case nil:
				out = append(out, fmt.Sprintf("+%s %s", typ, name))
			case r:
			default:
				out = append(out, fmt.Sprintf("~%s %s", typ, name))
			}
		}
		for name := range before.Shared.All(typ) {
			if now.Shared.Get(typ, name) == nil {
				out = append(out, fmt.Sprintf("-%s %s", typ, name))
			}
		}
	}
	slices.Sort(out)
	f.named(before, now, out)
	return out
}

func (f *follower) named(before, now *cache.State, changed []string) {
	f.t.Helper()
	names, ok := now.ChangedSince(before)
	if !ok {
		f.t.Fatal("everything has to be compared")
	}
	for typ := range names {
		for _, name := range names[typ] {
			if !slices.ContainsFunc(changed, func(c string) bool { return c[1:] == resources.Type(typ).String()+" "+name }) {
				f.t.Errorf("%s %s is said to have changed", resources.Type(typ), name)
			}
		}
	}
	for _, c := range changed {
		typ, name, _ := strings.Cut(c[1:], " ")
		if !slices.ContainsFunc([]resources.Type{resources.Cluster, resources.Endpoints, resources.Listener, resources.Route}, func(t resources.Type) bool {
			return t.String() == typ && slices.Contains(names[t], name)
		}) {
			f.t.Errorf("%s was not said to have changed", c)
		}
	}
	if len(changed) == 0 && before != now {
		f.t.Error("woken for nothing")
	}
}

func (f *follower) expect(text string, want ...string) {
	f.t.Helper()
	slices.Sort(want)
	if got := f.becomes(text); !slices.Equal(got, want) {
		f.t.Errorf("changed:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// In a mesh of 5,000 services one endpoint is one resource.
func TestOneEndpointAmongThousands(t *testing.T) {
	f := follow(t, cache.Sidecar, many(5000, -1))
	for _, turn := range []int{4711, -1} {
		f.expect(many(5000, turn), "~eds outbound|80||s4711.shop.svc.clusterset.local")
	}
}

// A gateway that moves reaches the own cluster's names that fail over, and none
// of its others.
func TestFailoverFollowsOtherClusters(t *testing.T) {
	const mesh = `
cluster east network=blue region=eu local read
cluster west network=green read gateways=192.0.2.7:15443
service own.shop@east failover
  port 80 tcp
  vip east 10.96.0.9
  export east 80/tcp
  export west 80/tcp
  endpoint east 10.1.0.4 pod=own-1 account=own mtls 80:80
  endpoint west 10.2.0.4 pod=own-1 account=own mtls 80:80
service other.shop@east
  port 80 tcp
  vip east 10.96.0.10
  endpoint east 10.1.0.5 pod=other-1 account=other mtls 80:80
`
	f := follow(t, cache.Sidecar, mesh)
	f.expect(strings.Replace(mesh, "192.0.2.7", "192.0.2.8", 1), "~eds outbound|80||own.shop.svc.cluster.local")
}

// From where plaintext may come is an input of inbound listeners that hold it,
// and of no others.
func TestInboundFollowsInside(t *testing.T) {
	const mesh = `
cluster east network=blue region=eu local read inside=10.1.0.0/16
workload east/shop/open-1 account=web 8080/http
workload east/shop/chosen-1 account=web 8080/http from:8080=east,west
`
	s := meshtest.Snapshot(t, mesh)
	c := cache.New(nil)
	c.Update(s)
	open := member(c, s, cache.Sidecar, federation.WorkloadKey{Cluster: "east", Namespace: "shop", Name: "open-1"})
	chosen := member(c, s, cache.Sidecar, federation.WorkloadKey{Cluster: "east", Namespace: "shop", Name: "chosen-1"})
	wasOpen, wasChosen := open.State().Own, chosen.State().Own
	c.Update(evolve(t, s, strings.Replace(mesh, "10.1.0.0/16", "10.9.0.0/16", 1)))
	if open.State().Own != wasOpen {
		t.Error("a listener that does not ask was made anew")
	}
	now := chosen.State().Own
	if now == wasChosen || now.Get(resources.Listener, "inbound").Version == wasChosen.Get(resources.Listener, "inbound").Version {
		t.Error("a listener kept ranges that are not true any more")
	}
}

// A drain costs the load assignments of services that the cluster has part in,
// and each step of a return the same; how far it is for people costs nothing.
func TestDrainCostsWhatItMoves(t *testing.T) {
	mesh := func(drain string) string {
		return "cluster east network=blue local read\n" +
			"cluster west network=green read gateways=192.0.2.7:15443 " + drain + "\n" +
			"cluster north network=red read gateways=192.0.2.9:15443\n" + `
service both.shop
  port 80 http
  vip east 10.96.0.1
  export west 80/http
  export north 80/http
  endpoint west 10.2.0.1 pod=w account=both mtls 80:80
  endpoint north 10.3.0.1 pod=n account=both mtls 80:80
service north.shop
  port 80 http
  vip east 10.96.0.2
  export north 80/http
  endpoint north 10.3.0.2 pod=n2 account=north mtls 80:80
service only.shop
  port 80 http
  vip east 10.96.0.3
  export west 80/http
  endpoint west 10.2.0.2 pod=w2 account=only mtls 80:80
service own.shop@east
  port 80 http
  vip east 10.96.0.4
  endpoint east 10.1.0.2 pod=o account=own mtls 80:80
workload east/shop/web-1 account=web
`
	}
	f := follow(t, cache.Sidecar, mesh(""))
	moved := []string{"~eds outbound|80||both.shop.svc.clusterset.local"}
	for _, step := range []struct {
		drain string
		want  []string
	}{
		{"drain=draining", moved}, {"drain=drained", nil}, {"drain=drained,since=2026-01-02T15:04:05Z", nil}, {"drain=returning=10", moved}, {"drain=returning=50", moved}, {"", moved},
	} {
		if got := f.becomes(mesh(step.drain)); !slices.Equal(got, step.want) {
			t.Errorf("%q: %v, want %v", step.drain, got, step.want)
		}
	}
}
