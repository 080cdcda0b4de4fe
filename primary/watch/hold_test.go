package watch

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/ingest"
	"github.com/isthmus-mesh/isthmus/federation/mcs"
	"github.com/isthmus-mesh/isthmus/trust"
)

// mesh is three clusters that export one service; near is on east's network.
type mesh struct {
	t        *testing.T
	in       *ingest.Inputs
	snapshot *federation.Snapshot
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	domain, err := trust.ParseDomain("cluster.local")
	must(t, err)
	m := &mesh{t: t, in: ingest.NewInputs(domain, "isthmus-system")}
	var ch ingest.Changes
	for name, network := range map[federation.ClusterName]federation.NetworkName{"east": "e", "near": "e", "west": "w"} {
		m.in.SetCluster(ingest.ClusterState{Name: name, Local: name == "east", Served: name == "east", Read: true, Reachable: true, Network: network}, &ch)
		for _, headless := range []bool{false, true} {
			m.export(name, headless, &ch)
		}
		m.ready(name, "web", 3, &ch)
		m.ready(name, "db", 3, &ch)
	}
	m.snapshot = ingest.Build(nil, m.in, ch)
	return m
}

func (m *mesh) export(cluster federation.ClusterName, headless bool, ch *ingest.Changes) {
	id := ingest.Name{Namespace: "shop", Name: map[bool]string{false: "web", true: "db"}[headless]}
	port := mcs.Port{Name: "http", Transport: mcs.TCP, Number: 80}
	s := &ingest.Service{Name: id, Headless: headless, Ports: []ingest.ServicePort{{Port: port, Protocol: ingest.ParseProtocol(port)}}}
	if !headless {
		s.IPs = []netip.Addr{netip.MustParseAddr("10.96.0.1")}
	}
	m.in.Set(cluster, s, ch)
	m.in.Set(cluster, &ingest.Export{Name: id, Since: time.Unix(1, 0).UTC()}, ch)
}

// ready makes the first n of three pods of a service ready.
func (m *mesh) ready(cluster federation.ClusterName, service string, n int, ch *ingest.Changes) {
	m.slice(cluster, service, n, 0, ch)
}

func (m *mesh) slice(cluster federation.ClusterName, service string, n, shift int, ch *ingest.Changes) {
	s := &ingest.Slice{Name: ingest.Name{Namespace: "shop", Name: service + "-1"}, Service: service, Ports: []ingest.SlicePort{{Name: "http", Number: 8080}}}
	for i := range 3 {
		pod := &ingest.Pod{
			Name: ingest.Name{Namespace: "shop", Name: fmt.Sprint(service, i+shift)}, Account: "app", Injected: true,
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, cluster[0], service[0], byte(i + shift)})},
		}
		m.in.Set(cluster, pod, ch)
		e := ingest.SliceEndpoint{Addr: pod.Addrs[0], Pod: pod.Name.Name}
		if i >= n {
			e.Health = federation.NotReady
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	m.in.Set(cluster, s, ch)
}

// What may wait is a change in how many are ready behind another network, and
// nothing else.
func TestOnlyWeightsAreHeld(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*mesh, *ingest.Changes)
		held   bool
	}{
		"fewer ready behind another network":          {func(m *mesh, ch *ingest.Changes) { m.ready("west", "web", 2, ch) }, true},
		"other pods, as many, behind another network": {func(m *mesh, ch *ingest.Changes) { m.slice("west", "web", 3, 7, ch) }, true},
		"to zero":                              {func(m *mesh, ch *ingest.Changes) { m.ready("west", "web", 0, ch) }, false},
		"own network, another cluster":         {func(m *mesh, ch *ingest.Changes) { m.ready("near", "web", 2, ch) }, false},
		"own network, other addresses":         {func(m *mesh, ch *ingest.Changes) { m.slice("near", "web", 3, 7, ch) }, false},
		"own cluster":                          {func(m *mesh, ch *ingest.Changes) { m.ready("east", "web", 2, ch) }, false},
		"a pod of a headless service":          {func(m *mesh, ch *ingest.Changes) { m.ready("west", "db", 2, ch) }, false},
		"weights and something else, together": {func(m *mesh, ch *ingest.Changes) { m.ready("west", "web", 2, ch); m.ready("near", "web", 1, ch) }, false},
		"another identity": {func(m *mesh, ch *ingest.Changes) {
			m.in.Set("west", &ingest.Pod{Name: ingest.Name{Namespace: "shop", Name: "web0"}, Account: "other", Injected: true, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 'w', 'w', 0})}}, ch)
		}, false},
		"an export leaves": {func(m *mesh, ch *ingest.Changes) {
			m.in.Remove("west", ingest.KindExport, ingest.Name{Namespace: "shop", Name: "web"}, ch)
		}, false},
		"a gateway falls silent": {func(m *mesh, ch *ingest.Changes) {
			m.in.SetCluster(ingest.ClusterState{Name: "west", Read: true, Reachable: true, Network: "w", Priority: 3}, ch)
		}, false},
		"nothing that matters": {func(m *mesh, ch *ingest.Changes) {
			m.in.Set("west", &ingest.Service{Name: ingest.Name{Namespace: "shop", Name: "unused"}}, ch)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t)
			var ch ingest.Changes
			c.change(m, &ch)
			var h hold
			now := time.Unix(100, 0)
			next := ingest.Build(m.snapshot, m.in, ch)
			if held := h.add(m.snapshot, next, ch, "east", now); held != c.held {
				t.Fatalf("held: %v", held)
			}
			if c.held && !h.due().Equal(now.Add(time.Second)) {
				t.Errorf("due %v", h.due())
			}
		})
	}
}

// What is compared is what has been published: small steps to zero are no mere
// weights, and the first of a second says when it ends.
func TestHeldStepsAddUp(t *testing.T) {
	m := newMesh(t)
	var h hold
	now, built := time.Unix(100, 0), m.snapshot
	for n := 2; n >= 0; n-- {
		var ch ingest.Changes
		m.ready("west", "web", n, &ch)
		built = ingest.Build(built, m.in, ch)
		if held := h.add(m.snapshot, built, ch, "east", now.Add(time.Duration(2-n)*300*time.Millisecond)); held != (n > 0) {
			t.Fatalf("%d ready: held %v", n, held)
		}
	}
	if !h.due().Equal(now.Add(time.Second)) {
		t.Errorf("due %v", h.due())
	}
	published := built
	h.release()
	var ch ingest.Changes
	m.ready("west", "web", 1, &ch)
	if h.add(published, ingest.Build(built, m.in, ch), ch, "east", now) || !h.due().IsZero() {
		t.Error("a change from zero is held")
	}
}

// What a change costs does not grow with how many are held.
func TestHoldComparesWhatChanged(t *testing.T) {
	const many = 200
	m := newMesh(t)
	one := func(i, ready int, ch *ingest.Changes) {
		name := fmt.Sprint("s", i)
		id := ingest.Name{Namespace: "shop", Name: name}
		m.in.Set("west", &ingest.Service{Name: id, IPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Ports: []ingest.ServicePort{{Port: mcs.Port{Name: "http", Transport: mcs.TCP, Number: 80}}}}, ch)
		m.in.Set("west", &ingest.Export{Name: id, Since: time.Unix(1, 0).UTC()}, ch)
		m.ready("west", name, ready, ch)
	}
	var all ingest.Changes
	for i := range many {
		one(i, 3, &all)
	}
	published := ingest.Build(m.snapshot, m.in, all)
	var h hold
	now, built := time.Unix(100, 0), published
	cost := func(i int) float64 {
		var ch ingest.Changes
		one(i, 2, &ch)
		built = ingest.Build(built, m.in, ch)
		return testing.AllocsPerRun(5, func() {
			if !h.add(published, built, ch, "east", now) {
				t.Error("a mere weight is not held")
			}
		})
	}
	first := cost(0)
	for i := range many - 1 {
		if last := cost(i + 1); last > 3*first+10 {
			t.Fatalf("the first change takes %v allocations, that after %d held ones %v", first, i+1, last)
		}
	}
}

// Through real API servers: many changes of weight come out as few snapshots,
// the last of them within its second, and what is not a weight takes them along.
func TestWeightsComeTogether(t *testing.T) {
	west := needWest(t)
	e, c := prepare(t, east, "net-east"), prepare(t, west, "net-west")
	workload{"hold", "web", "10.30.0.1", true, true}.create(t, c)
	for i := range 7 {
		workload{"hold", fmt.Sprint("web-", i), fmt.Sprint("10.30.1.", i+1), true, false}.createPod(t, c)
	}
	r := start(t, nil)
	secret := remoteSecret(t, "west", readerConfig(t, west))
	must(t, e.Create(t.Context(), secret))
	key := federation.ServiceKey{Namespace: "hold", Name: "web"}
	ready := func(n int) func(*federation.Snapshot) bool {
		return func(s *federation.Snapshot) bool {
			svc, count := s.Service(key), 0
			for i := 0; svc != nil && i < len(svc.Endpoints); i++ {
				if svc.Endpoints[i].Health == federation.Ready {
					count++
				}
			}
			return count == n
		}
	}
	r.wait("one pod", ready(1))
	slice := &discoveryv1.EndpointSlice{}
	must(t, c.Get(t.Context(), client.ObjectKey{Namespace: "hold", Name: "web-1"}, slice))
	seen, began := map[*federation.Snapshot]bool{r.Snapshot(): true}, time.Now()
	for i := range 7 {
		more := *slice.Endpoints[0].DeepCopy()
		more.Addresses, more.TargetRef.Name = []string{fmt.Sprint("10.30.1.", i+1)}, fmt.Sprint("web-", i)
		slice.Endpoints = append(slice.Endpoints, more)
		must(t, c.Update(t.Context(), slice))
		time.Sleep(50 * time.Millisecond) // a rate, not a wait
		seen[r.Snapshot()] = true
	}
	if most := 2 + int(time.Since(began)/holdFor); len(seen) > most {
		t.Errorf("%d snapshots of 7 changes of weight in %v", len(seen), time.Since(began))
	}
	r.wait("eight pods", ready(8))
	slice.Endpoints = nil
	must(t, c.Update(t.Context(), slice))
	r.wait("no pods", ready(0))
	must(t, e.Delete(t.Context(), secret))
}
