package cache_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/meshtest"
	"github.com/isthmus-mesh/isthmus/primary/cache"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// member joins a proxy of that cluster: the gateway, or the sidecar of a pod.
func member(c *cache.Cache, s *federation.Snapshot, kind cache.Kind, load federation.WorkloadKey) *cache.Member {
	p := cache.Proxy{Group: cache.Group{Kind: kind, Cluster: load.Cluster, Network: s.Cluster(load.Cluster).Network, MTLS: true}, Workload: load}
	if w := s.Workload(load); w != nil {
		p.Identity = w.Account.String()
	}
	return c.Join(p)
}

// What each sidecar and each cluster's gateway is sent, in domain words.
func TestWhatProxiesAreSent(t *testing.T) {
	meshtest.Golden(t, "testdata/*.txtar", func(t *testing.T, mesh string) map[string]string {
		s := meshtest.Snapshot(t, mesh)
		c := cache.New(nil)
		c.Update(s)
		out := map[string]string{}
		for w := range s.Workloads() {
			m := member(c, s, cache.Sidecar, w.Key)
			out["sidecar/"+string(w.Key.Cluster)+"/"+w.Key.Name] = words(t, m.State())
			m.Close()
		}
		for _, cl := range s.Clusters() {
			if len(cl.Gateways) > 0 {
				m := member(c, s, cache.EastWest, federation.WorkloadKey{Cluster: cl.Name})
				out["gateway/"+string(cl.Name)] = words(t, m.State())
				m.Close()
			}
			if len(cl.Entries) > 0 {
				m := member(c, s, cache.Entry, federation.WorkloadKey{Cluster: cl.Name})
				out["entry/"+string(cl.Name)] = words(t, m.State())
				m.Close()
			}
		}
		return out
	})
}

// many writes n services, of which the one numbered turn has another endpoint.
func many(n, turn int) string {
	var b strings.Builder
	b.WriteString("cluster east network=blue region=eu local read\ncluster west network=green read gateways=192.0.2.7:15443\nworkload east/shop/web-1 account=web 80/http\n")
	for i := range n {
		third := 0
		if i == turn {
			third = 1
		}
		fmt.Fprintf(&b, "service s%d.shop\n  port 80 http\n  vip east 10.96.%d.%d\n  export west 80/http\n  endpoint east 10.%d.0.%d pod=p account=s mtls 80:8080\n", i, i/250, i%250, third, i%250)
	}
	return b.String()
}

// evolve parses text into a snapshot that shares with prev what did not change.
func evolve(t testing.TB, prev *federation.Snapshot, text string) *federation.Snapshot {
	t.Helper()
	parts, err := meshtest.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for key, svc := range parts.Services {
		if old := prev.Service(key); old != nil && reflect.DeepEqual(old, svc) {
			parts.Services[key] = old
		}
	}
	return federation.NewSnapshot(parts)
}

// A changed endpoint makes one load assignment; everything else stays the same
// resource, by pointer.
func TestOneEndpointOneAssignment(t *testing.T) {
	before := meshtest.Snapshot(t, many(100, -1))
	c := cache.New(nil)
	c.Update(before)
	m := member(c, before, cache.Sidecar, federation.WorkloadKey{Cluster: "east", Namespace: "shop", Name: "web-1"})
	old := m.State()
	c.Update(evolve(t, before, many(100, 42)))
	select {
	case <-m.Changed():
	default:
		t.Fatal("not told of the change")
	}
	now := m.State()
	const name = "outbound|80||s42.shop.svc.clusterset.local"
	changed, ok := now.ChangedSince(old)
	if !ok || !slices.Equal(changed[resources.Endpoints], []string{name}) || len(changed[resources.Cluster])+len(changed[resources.Listener])+len(changed[resources.Route]) != 0 {
		t.Errorf("changed %v, %v", changed, ok)
	}
	for typ := range resources.Type(resources.TypeCount) {
		for n, r := range old.Shared.All(typ) {
			if same := now.Get(typ, n) == r; same == (typ == resources.Endpoints && n == name) {
				t.Errorf("%s %s: same resource is %v", typ, n, same)
			}
		}
	}
}

// Proxies of one place share their encodings, and so do those of different
// places where the place makes no difference.
func TestSharing(t *testing.T) {
	s := meshtest.Snapshot(t, many(3, -1)+"cluster middle network=blue region=eu read\nworkload middle/shop/web-9 account=web 80/http\n")
	c := cache.New(nil)
	c.Update(s)
	one := member(c, s, cache.Sidecar, federation.WorkloadKey{Cluster: "east", Namespace: "shop", Name: "web-1"})
	two := c.Join(one.Proxy())
	if one.State().Shared != two.State().Shared || one.State().Own != two.State().Own {
		t.Error("two proxies of one place do not share")
	}
	if got := len(c.Groups()); got != 1 {
		t.Errorf("%d groups", got)
	}
	one.Close()
	two.Close()
	if got := len(c.Groups()); got != 0 {
		t.Errorf("%d groups are kept for nobody", got)
	}
}

// A change that is not one wakes nobody.
func TestSameFactsWakeNobody(t *testing.T) {
	s := meshtest.Snapshot(t, many(10, -1))
	c := cache.New(nil)
	c.Update(s)
	m := member(c, s, cache.Sidecar, federation.WorkloadKey{Cluster: "east", Namespace: "shop", Name: "web-1"})
	<-m.Changed() // by joining
	for seed := range uint64(5) {
		c.Update(meshtest.Snapshot(t, meshtest.Shuffled(many(10, -1), seed)))
		select {
		case <-m.Changed():
			t.Fatal("woken for nothing")
		default:
		}
	}
}

// A Set that fell too far behind is compared in full.
func TestChangesAreForgotten(t *testing.T) {
	s := meshtest.Snapshot(t, many(2, -1))
	c := cache.New(nil)
	c.Update(s)
	m := member(c, s, cache.Sidecar, federation.WorkloadKey{Cluster: "east", Namespace: "shop", Name: "web-1"})
	old := m.State()
	for i := range 40 {
		c.Update(meshtest.Snapshot(t, many(2, i%2)))
	}
	if names, ok := m.State().ChangedSince(old); !ok || len(names[resources.Endpoints]) < 40 {
		t.Errorf("after 40 changes: %v, %v", names, ok)
	}
	for i := range 40 {
		c.Update(meshtest.Snapshot(t, many(2, i%2)))
	}
	if _, ok := m.State().ChangedSince(old); ok {
		t.Error("80 changes are remembered")
	}
}

func ports(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  port %d tcp\n", i+1)
	}
	return b.String()
}

// An invalid service is left out and named; the rest is there.
func TestInvalidIsLeftOut(t *testing.T) {
	s := meshtest.Snapshot(t, many(20, -1)+"service Bad_Name.shop@east\n  port 80 http\n  vip east 10.97.0.1\n  endpoint east 10.1.9.9 pod=p account=s mtls 80:80\n"+
		"service huge.shop@east\n  vip east 10.97.0.2\n"+ports(2000))
	c := cache.New(nil)
	c.Update(s)
	m := member(c, s, cache.Sidecar, federation.WorkloadKey{Cluster: "east", Namespace: "shop", Name: "web-1"})
	if got := len(m.State().Shared.All(resources.Listener)); got != 21 {
		t.Errorf("%d listeners", got)
	}
	if got := c.Problems(); len(got) != 2 {
		t.Errorf("problems: %v", got)
	}
	c.Update(evolve(t, s, many(20, -1)))
	if got := c.Problems(); len(got) != 0 {
		t.Errorf("problems that are gone: %v", got)
	}
}
