package ads_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/meshtest"
	"github.com/isthmus-mesh/isthmus/primary/cache"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

func unmarshal(b []byte, m proto.Message) error { return proto.Unmarshal(b, m) }

// randomMesh writes a mesh of up to ten services with what may vary in it.
func randomMesh(r *rand.Rand) string {
	var b strings.Builder
	silent := []string{"", "/silent"}
	fmt.Fprintf(&b, "cluster east network=blue region=eu local read gateways=192.0.2.1:15443 inside=10.1.0.0/16%s shutout=%s\n",
		[]string{"", ",192.0.2.30/32"}[r.IntN(2)], []string{"", "10.1.9.9"}[r.IntN(2)])
	fmt.Fprintf(&b, "cluster west network=green region=eu read gateways=192.0.2.7:15443%s,192.0.2.8:15443\n", silent[r.IntN(2)])
	protocols := []string{"http", "http2", "tcp", "auto"}
	for i := range 10 {
		if r.IntN(3) == 0 {
			continue
		}
		headless := ""
		if r.IntN(5) == 0 {
			headless = " headless"
		}
		local := ""
		if i%2 == 0 {
			local = "@east"
		}
		fmt.Fprintf(&b, "service s%d.shop%s%s\n", i, local, headless)
		fmt.Fprintf(&b, "  port 80 %s\n", protocols[r.IntN(4)])
		if r.IntN(2) == 0 {
			fmt.Fprintf(&b, "  port 81 %s\n", protocols[r.IntN(4)])
		}
		fmt.Fprintf(&b, "  vip east 10.96.%d.%d\n", i, 1+r.IntN(2))
		for e := range r.IntN(4) {
			fmt.Fprintf(&b, "  endpoint east 10.1.%d.%d pod=p%d account=s%d %s 80:8080 81:8081\n", i, e+1, e, r.IntN(2), []string{"mtls", ""}[r.IntN(2)])
		}
		if local == "" {
			fmt.Fprintf(&b, "  export east 80/http 81/tcp%s\n  export west 80/http%s\n", []string{"", " noentry"}[r.IntN(2)], []string{"", " hidden"}[r.IntN(2)])
			fmt.Fprintf(&b, "  entry east 80 %d\n", 20000+r.IntN(8)) // some are claimed twice, some pass on
			for e := range r.IntN(3) {
				fmt.Fprintf(&b, "  endpoint west 10.2.%d.%d pod=p%d account=s%d mtls 80:8080 81:8081\n", i, e+1, e, i)
				fmt.Fprintf(&b, "  synthetic east west p%d 240.241.%d.%d\n", e, i, e)
			}
		}
	}
	fmt.Fprintf(&b, "workload east/shop/web-1 account=web mtls=%s 8080/%s%s\n", []string{"strict", "permissive"}[r.IntN(2)], protocols[r.IntN(4)], []string{"", " from:8080=east noentry:8080"}[r.IntN(2)])
	return b.String()
}

// settled is what a proxy must end up with, by a cache that knows only the last
// snapshot.
func settled(s *federation.Snapshot, w who) map[string]map[string][]byte {
	c := cache.New(nil)
	c.Update(s)
	network := s.Cluster(federation.ClusterName(w.cluster)).Network
	p := cache.Proxy{
		Group:    cache.Group{Cluster: federation.ClusterName(w.cluster), Network: network, MTLS: true},
		Workload: federation.WorkloadKey{Cluster: federation.ClusterName(w.cluster), Namespace: w.namespace, Name: w.pod},
		Identity: "spiffe://cluster.local/ns/" + w.namespace + "/sa/" + w.account,
	}
	switch w.say["PROXY_TYPE"] {
	case "east-west":
		p.Group.Kind = cache.EastWest
	case "entry":
		p.Group.Kind = cache.Entry
	}
	m := c.Join(p)
	defer m.Close()
	out := map[string]map[string][]byte{}
	for t := range resources.Type(resources.TypeCount) {
		out[t.URL()] = map[string][]byte{}
		for _, set := range []*cache.Set{m.State().Shared, m.State().Own} {
			for name, r := range set.All(t) {
				out[t.URL()][name] = r.Body.Value
			}
		}
	}
	return out
}

// Delta and state-of-the-world clients with the same history of random changes
// and reconnects end in the same state, always. (faults.md 31)
func TestBothProtocolsReachTheSameState(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 2))
			b := start(t, nil)
			clients := []*client{
				newClient(t, b, web(), false), newClient(t, b, web(), true),
				newClient(t, b, gateway("west"), false), newClient(t, b, gateway("west"), true),
				newClient(t, b, entry("east"), false), newClient(t, b, entry("east"), true),
			}
			for range 20 {
				s := meshtest.Snapshot(t, randomMesh(r))
				b.Update(s)
				for _, c := range clients {
					switch r.IntN(4) {
					case 0:
						c.disconnect()
					case 1, 2:
						if c.cancel == nil {
							c.connect()
						}
					case 3:
						if c.cancel != nil {
							c.reaches(settled(s, c.who))
						}
					}
				}
			}
			last := meshtest.Snapshot(t, randomMesh(r))
			b.Update(last)
			for _, c := range clients {
				if c.cancel == nil {
					c.connect()
				}
				c.reaches(settled(last, c.who))
			}
		})
	}
}

func difference(got, want map[string]map[string][]byte) string {
	var b strings.Builder
	for url := range want {
		for name, body := range want[url] {
			if other, ok := got[url][name]; !ok {
				fmt.Fprintf(&b, "missing %s %s\n", url, name)
			} else if !bytes.Equal(body, other) {
				fmt.Fprintf(&b, "old %s %s\n", url, name)
			}
		}
		for name := range got[url] {
			if _, ok := want[url][name]; !ok {
				fmt.Fprintf(&b, "surplus %s %s\n", url, name)
			}
		}
	}
	return b.String()
}
