package ingest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/mcs"
	"github.com/isthmus-mesh/isthmus/trust"
)

func testDomain(t testing.TB) trust.Domain {
	t.Helper()
	domain, err := trust.ParseDomain("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	return domain
}

// world is a mesh that changes at random. It remembers its objects, so that
// inputs can be made anew in any order.
type world struct {
	r       *rand.Rand
	states  map[federation.ClusterName]ClusterState
	objects map[federation.ClusterName]map[objectID]Object
}

type objectID struct {
	kind Kind
	name Name
}

var worldClusters = []federation.ClusterName{"east", "north", "west"}

func newWorld(seed uint64) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 1)), states: map[federation.ClusterName]ClusterState{}, objects: map[federation.ClusterName]map[objectID]Object{}}
	for _, c := range worldClusters {
		w.objects[c] = map[objectID]Object{}
		w.states[c] = ClusterState{Name: c, Local: c == "east", Served: c == "east", Read: true, Reachable: true, Network: federation.NetworkName(c)}
		n := Name{"shop", "a"} // one service that all have to begin with
		port := mcs.Port{Name: "http", Transport: mcs.TCP, Number: 80}
		for _, o := range []Object{
			&Service{Name: n, IPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Ports: []ServicePort{{Port: port, Protocol: ParseProtocol(port)}}},
			&Export{Name: n, Since: time.Unix(1, 0).UTC(), Terms: Terms{Failover: true}},
			&Slice{Name: Name{"shop", "s1"}, Service: "a", Ports: []SlicePort{{"http", 8080}}, Endpoints: []SliceEndpoint{{Addr: w.addr(), Pod: "a"}, {Addr: w.addr()}}},
		} {
			w.objects[c][objectID{o.Kind(), o.ID()}] = o
		}
	}
	return w
}

// event is one change of a world.
type event func(in *Inputs, ch *Changes)

// next changes the world and returns the event that tells of it.
func (w *world) next() event {
	c := worldClusters[w.r.IntN(len(worldClusters))]
	if w.r.IntN(12) == 0 {
		return w.nextState(c)
	}
	o := w.object(c)
	id := objectID{o.Kind(), o.ID()}
	if w.r.IntN(4) == 0 {
		delete(w.objects[c], id)
		return func(in *Inputs, ch *Changes) { in.Remove(c, id.kind, id.name, ch) }
	}
	w.objects[c][id] = o
	return func(in *Inputs, ch *Changes) { in.Set(c, o, ch) }
}

func (w *world) nextState(c federation.ClusterName) event {
	s := w.states[c]
	if c != "east" {
		switch w.r.IntN(6) {
		case 5:
			s.Drain, s.KeepAway = w.drain(), w.drain()
		case 0:
			s.Reachable, s.Since = !s.Reachable, time.Unix(int64(1000+w.r.IntN(3)), 0).UTC()
		case 1:
			s.Lost = !s.Lost
		case 2:
			s.Read = !s.Read
		case 3:
			s.Network = pick(w.r, federation.NetworkName("east"), "west", "")
		case 4:
			s.Priority = w.r.IntN(3)
		}
	}
	w.states[c] = s
	return func(in *Inputs, ch *Changes) { in.SetCluster(s, ch) }
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func (w *world) name() Name {
	return Name{pick(w.r, "shop", "shop", "shop", "bank", "kube-system"), pick(w.r, "a", "a", "b", "c")}
}

func (w *world) object(c federation.ClusterName) Object {
	r, n := w.r, w.name()
	switch r.IntN(12) {
	case 0, 1:
		return w.service(n)
	case 2, 3, 4:
		return w.slice(n)
	case 5, 6:
		return &Pod{
			Name: n, UID: "u", Account: pick(r, "one", "two"), Node: pick(r, "n1", "n2"), Injected: r.IntN(3) > 0, Done: r.IntN(9) == 0,
			Addrs: []netip.Addr{w.addr()}, Labels: map[string]string{"app": pick(r, "x", "y")}, HostNetwork: r.IntN(9) == 0,
		}
	case 7:
		return &Node{
			Node: pick(r, "n1", "n2"), Locality: federation.Locality{Region: "r", Zone: pick(r, "z1", "z2")},
			Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, All: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(6 + r.IntN(2))})}, CIDRs: []netip.Prefix{pick(r, netip.MustParsePrefix("10.0.0.0/30"), netip.MustParsePrefix("10.9.0.0/16"))},
		}
	case 8, 9:
		return &Export{Name: n, Since: time.Unix(int64(r.IntN(3)), 0).UTC(), Terms: w.terms()}
	case 10:
		return w.rare(c, n)
	}
	return w.imported(n)
}

func (w *world) terms() Terms {
	r := w.r
	t := Terms{NoEntry: r.IntN(4) == 0, Failover: r.IntN(3) == 0}
	switch r.IntN(8) {
	case 0, 1:
		t.To = []federation.ClusterName{"north", "south"}
	case 2:
		t.To = []federation.ClusterName{"east"}
	case 3:
		t.BadTo = "no good"
	case 4:
		t.BadEntry, t.BadLocalName = "no good", "no good"
	}
	return t
}

func (w *world) service(n Name) *Service {
	r := w.r
	s := &Service{Name: n, Headless: r.IntN(5) == 0, External: r.IntN(9) == 0, SameZone: r.IntN(3) == 0}
	if !s.Headless {
		s.IPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, byte(r.IntN(8))})}
	}
	for i := range r.IntN(3) {
		p := ServicePort{Port: mcs.Port{Name: pick(r, "http", "tcp", fmt.Sprint("p", i)), Transport: pick(r, mcs.TCP, mcs.TCP, "UDP"), Number: uint16(80 + r.IntN(3))}}
		p.Protocol = ParseProtocol(p.Port)
		s.Ports = append(s.Ports, p)
	}
	if r.IntN(6) == 0 {
		s.Import = pick(r, "a", "b")
	}
	return s
}

func (w *world) addr() netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(w.r.IntN(12))}) }

func (w *world) slice(n Name) *Slice {
	r := w.r
	s := &Slice{Name: Name{n.Namespace, pick(r, "s1", "s2", "s3", "s4")}, Service: n.Name, Ports: []SlicePort{{pick(r, "http", "tcp", "p0"), 8080}}}
	for range r.IntN(4) {
		e := SliceEndpoint{Addr: w.addr(), Node: pick(r, "n1", "n2", ""), Health: federation.Health(r.IntN(3))}
		if r.IntN(4) > 0 {
			e.Pod = pick(r, "a", "b", "c")
		}
		if r.IntN(10) == 0 {
			e.Addr = netip.MustParseAddr("169.254.169.254")
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func (w *world) rare(c federation.ClusterName, n Name) Object {
	r := w.r
	switch r.IntN(6) {
	case 4:
		return &Service{Name: Name{pick(r, "isthmus-system", "shop"), "entry"}, Entry: r.IntN(3) > 0}
	case 5:
		s := w.slice(Name{pick(r, "isthmus-system", "shop"), "entry"})
		s.Name.Name = "entry-1"
		return s
	case 0:
		return &Namespace{Namespace: pick(r, "isthmus-system", "shop"), Network: pick(r, "east", "west", ""), Refused: r.IntN(2) == 0, Drain: w.drain()}
	case 1:
		p := &Policy{Name: Name{pick(r, "shop", "isthmus-system"), n.Name}, Since: time.Unix(int64(r.IntN(3)), 0).UTC(), Mode: Mode(r.IntN(4))}
		if r.IntN(2) == 0 {
			p.Selector, p.Ports = map[string]string{"app": "x"}, map[uint32]Mode{8080: Mode(r.IntN(4))}
		}
		return p
	case 2:
		return &Import{Name: n, IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 97, 0, byte(r.IntN(8))})}}
	}
	return &Service{Name: Name{"isthmus-system", "gw"}, Gateway: true, ByHand: pick(r, "192.0.2.7:15443", "192.0.2.8:15443,bad", "127.0.0.1:15443")}
}

func (w *world) drain() *federation.Drain {
	return pick(w.r, nil, &federation.Drain{Stage: federation.Draining}, &federation.Drain{Stage: federation.Returning, Share: 1 + w.r.IntN(2)})
}

// imported is a slice that a control plane has written from a checkpoint.
func (w *world) imported(n Name) Object {
	r := w.r
	source := pick(r, worldClusters...)
	cp := federation.Checkpoint{
		Network: pick(r, federation.NetworkName("east"), "west"), Gateways: []string{"192.0.2.9:15443"}, ExportedSince: time.Unix(int64(1+r.IntN(3)), 0).UTC(),
		Ports: []federation.Port{{Name: "http", Number: 80, Protocol: federation.ProtocolHTTP}}, Ready: []federation.CheckpointCount{{Port: 80, Count: uint32(r.IntN(3))}},
	}
	s := &Slice{
		Name: Name{n.Namespace, fmt.Sprintf("isthmus-%s-%s", n.Name, source)}, Service: n.Name, Source: source, Since: time.Unix(int64(r.IntN(3)), 0).UTC(),
		Ports: []SlicePort{{"http", 8080}}, Endpoints: []SliceEndpoint{{Addr: w.addr()}},
	}
	s.Endpoints[0].Pod = pick(r, "", "a", "b")
	for i := range r.IntN(3) {
		s.EntryPorts = append(s.EntryPorts, federation.EntryPort{Service: uint16(80 + i), Port: uint16(20000 + 2*r.IntN(3) + i)})
	}
	if r.IntN(9) == 0 {
		s.EntryPorts, s.BadEntryPorts = nil, "no good"
	}
	if r.IntN(2) == 0 {
		cp.Headless, cp.Pods = true, []federation.CheckpointPod{{Name: "a"}}
	}
	if cp.NoEntry = r.IntN(3) == 0; r.IntN(7) == 0 {
		cp.Network = "other"
	}
	if s.Checkpoint = &cp; r.IntN(5) == 0 {
		s.Checkpoint, s.BadCheckpoint = nil, "no good"
	}
	return s
}

// inputs makes inputs of the whole world in an order of its own.
func (w *world) inputs(t testing.TB, order *rand.Rand) *Inputs {
	in := NewInputs(testDomain(t), "isthmus-system")
	var ch Changes
	clusters := slices.Clone(worldClusters)
	order.Shuffle(len(clusters), func(i, j int) { clusters[i], clusters[j] = clusters[j], clusters[i] })
	for _, c := range clusters {
		in.SetCluster(w.states[c], &ch)
		var all []Object
		for _, o := range w.objects[c] {
			all = append(all, o)
		}
		order.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, o := range all {
			in.Set(c, o, &ch)
		}
	}
	return in
}

// facts is a snapshot as plain values.
type facts struct {
	Services  []federation.Service
	Workloads map[federation.WorkloadKey]federation.Workload
	Clusters  []federation.Cluster
	Problems  []federation.Problem
}

func factsOf(s *federation.Snapshot) facts {
	f := facts{Workloads: map[federation.WorkloadKey]federation.Workload{}}
	for svc := range s.Services() {
		f.Services = append(f.Services, *svc)
	}
	for w := range s.Workloads() {
		f.Workloads[w.Key] = *w
	}
	for _, c := range s.Clusters() {
		f.Clusters = append(f.Clusters, *c)
	}
	f.Problems = append(f.Problems, s.Problems()...)
	return f
}

var compareValues = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Comparer(func(a, b trust.ID) bool { return a == b }),
}

func sameFacts(t *testing.T, what string, got, want *federation.Snapshot) {
	t.Helper()
	g, w := factsOf(got), factsOf(want)
	if !reflect.DeepEqual(g, w) {
		t.Fatalf("%s (-want +got):\n%s", what, cmp.Diff(w, g, compareValues))
	}
}

// Whatever happens in whatever order and however it is cut into steps, the
// snapshot is the one that a fresh start with the same objects gives.
func TestIncrementalIsFull(t *testing.T) {
	for seed := range uint64(100) {
		w := newWorld(seed)
		order := rand.New(rand.NewPCG(seed, 2))
		in := w.inputs(t, order)
		prev := Build(nil, in, Changes{})
		for step := range 40 {
			var ch Changes
			for range 1 + w.r.IntN(8) {
				w.next()(in, &ch)
			}
			next := Build(prev, in, ch)
			full := Build(nil, w.inputs(t, order), Changes{})
			sameFacts(t, fmt.Sprintf("seed %d, step %d, changes %+v", seed, step, ch), next, full)
			checkShared(t, prev, next)
			prev = next
		}
	}
}

// checkShared proves that what says the same is the same pointer.
func checkShared(t *testing.T, prev, next *federation.Snapshot) {
	t.Helper()
	for s := range next.Services() {
		if old := prev.Service(s.Key); old != nil && old != s && reflect.DeepEqual(old, s) {
			t.Fatalf("service %+v was made anew though nothing changed", s.Key)
		}
	}
	for w := range next.Workloads() {
		if old := prev.Workload(w.Key); old != nil && old != w && reflect.DeepEqual(old, w) {
			t.Fatalf("workload %+v was made anew though nothing changed", w.Key)
		}
	}
}
