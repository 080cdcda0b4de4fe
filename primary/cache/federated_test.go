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

const brokers = `
cluster east network=blue region=eu local read
cluster west network=green read gateways=192.0.2.7:15443
service mq.shop headless
  port 5672 tcp
  port 80 http
  export west 5672/tcp 80/http
  endpoint west 10.2.0.4 pod=mq-0 account=mq mtls 5672:5672 80:80
  endpoint west 10.2.0.5 pod=mq-1 account=mq mtls 5672:5672 80:80
  synthetic east west mq-0 240.241.0.1
  synthetic east west mq-1 240.241.0.2
workload east/shop/web-1 account=web
`

// A pod that comes, goes, or is no longer ready changes nothing of another's.
func TestOnePodDisturbsNoOther(t *testing.T) {
	f := follow(t, cache.Sidecar, brokers)
	const third = "  endpoint west 10.2.0.6 pod=mq-2 account=other mtls 5672:5672 80:80\n  synthetic east west mq-2 240.241.0.3\n"
	more := strings.Replace(brokers, "workload", third+"workload", 1)
	f.expect(more, "+cds outbound|5672|mq-2.west|mq.shop.svc.clusterset.local", "+cds outbound|80|mq-2.west|mq.shop.svc.clusterset.local",
		"+eds outbound|5672|mq-2.west|mq.shop.svc.clusterset.local", "+eds outbound|80|mq-2.west|mq.shop.svc.clusterset.local",
		"+lds outbound|5672|mq-2.west|mq.shop.svc.clusterset.local", "+lds outbound|80|mq-2.west|mq.shop.svc.clusterset.local",
		"+rds outbound|80|mq-2.west|mq.shop.svc.clusterset.local")
	f.expect(strings.Replace(more, "pod=mq-2 account=other mtls", "pod=mq-2 account=other mtls notready", 1))
	f.expect(strings.ReplaceAll(more, "10.2.0.6", "10.2.0.9")) // its own address is nothing to anybody here
	if got := f.becomes(strings.Replace(more, "192.0.2.7", "192.0.2.8", 1)); len(got) != 6 || slices.ContainsFunc(got, func(c string) bool { return !strings.HasPrefix(c, "~eds ") }) {
		t.Errorf("after their gateway moved: %v", got)
	}
	f.becomes(more)
	if got := f.becomes(brokers); len(got) != 7 || slices.ContainsFunc(got, func(c string) bool { return c[0] != '-' || !strings.Contains(c, "mq-2") }) {
		t.Errorf("changed: %v", got)
	}
}

// At the gateway of the pods' network a pod is its own too.
func TestOnePodAtTheGateway(t *testing.T) {
	mesh := strings.NewReplacer("cluster east network=blue", "cluster east network=green").Replace(brokers)
	f := follow(t, cache.EastWest, mesh)
	f.expect(strings.Replace(mesh, "pod=mq-1 account=mq mtls", "pod=mq-1 account=mq mtls notready", 1),
		"~eds p5672.mq.shop.sni.isthmus.internal", "~eds p80.mq.shop.sni.isthmus.internal")
	f.becomes(mesh)
	f.expect(strings.Replace(mesh, "10.2.0.5", "10.2.0.9", 1),
		"~eds p5672.mq.shop.sni.isthmus.internal", "~eds p80.mq.shop.sni.isthmus.internal",
		"~eds mq-1.west.pod.p5672.mq.shop.sni.isthmus.internal", "~eds mq-1.west.pod.p80.mq.shop.sni.isthmus.internal")
}

// A pod whose server name would be too long is left out and named; the others
// of its service are there, at both ends.
func TestPodNameTooLong(t *testing.T) {
	long, name := strings.Repeat("b", 63), strings.Repeat("s", 63)
	mesh := strings.NewReplacer("mq.shop", name+"."+long, "mq-1", strings.Repeat("p", 63), "west", "west-"+strings.Repeat("w", 40)).Replace(brokers)
	for kind, want := range map[cache.Kind]int{cache.Sidecar: 2, cache.EastWest: 4} {
		mesh := mesh
		if kind == cache.EastWest {
			mesh = strings.Replace(mesh, "cluster east network=blue", "cluster east network=green", 1)
		}
		f := follow(t, kind, mesh)
		count := 0
		for n := range f.member.State().Shared.All(resources.Endpoints) {
			if strings.Contains(n, long) {
				count++
			}
		}
		problem := f.cache.Problems()[federation.ServiceKey{Namespace: long, Name: name}]
		if count != want || !strings.Contains(problem, "server name too long") {
			t.Errorf("%s: %d load assignments, problem %q", kind, count, problem)
		}
	}
}

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

// An export that stops or begins to name this cluster, and one cluster's gateway
// that moves, reach the names of both kinds.
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
