package ingest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/mcs"
)

// reach is a way to an endpoint: by which port of the service to which of the pod's.
type reach struct {
	port, target uint16
	cluster      federation.ClusterName
	addr         netip.Addr
}

// reachable lists what callers of the clusterset service here reach.
func reachable(s *federation.Service) []reach {
	var out []reach
	for _, e := range s.Endpoints {
		for _, p := range e.Ports {
			if _, ok := s.Port(p.Service); ok && !s.HiddenFrom(e.Cluster) {
				out = append(out, reach{p.Service, p.Target, e.Cluster, e.Addr})
			}
		}
	}
	return out
}

// later adds an export of cluster that is younger than all there are and may
// disagree with them in everything, with random terms.
func (w *world) later(in *Inputs, cluster federation.ClusterName, since int64, ch *Changes) {
	r, n := w.r, Name{"shop", "a"}
	s := &Service{Name: n, Headless: r.IntN(2) == 0, IPs: []netip.Addr{netip.MustParseAddr("10.96.0.2")}}
	slice := &Slice{Name: Name{"shop", "s1"}, Service: "a", Endpoints: []SliceEndpoint{{Addr: netip.AddrFrom4([4]byte{10, 7, 0, byte(since)})}}}
	for i, name := range []string{"http", "admin", "web"}[:1+r.IntN(3)] {
		port := mcs.Port{Name: name, Transport: mcs.TCP, Number: uint16(80 + (i+r.IntN(2))%3*2 + i)}
		s.Ports = append(s.Ports, ServicePort{Port: port, Protocol: ParseProtocol(port)})
		slice.Ports = append(slice.Ports, SlicePort{name, uint16(8080 + i)})
	}
	s.Spec = mcs.Spec{SessionAffinity: pick(r, "", "ClientIP"), TrafficDistribution: pick(r, "", "PreferClose"), Families: pick(r, nil, []string{"IPv4", "IPv6"})}
	terms := w.terms()
	terms.NoEntry = r.IntN(2) == 0
	in.Set(cluster, s, ch)
	in.Set(cluster, slice, ch)
	in.Set(cluster, &Export{Name: n, Since: time.Unix(since, 0).UTC(), Labels: map[string]string{"a": fmt.Sprint(since)}, Terms: terms}, ch)
}

// However much a younger export disagrees, to whomever it is made: what could be
// reached before is reached after at the same addresses and ports, headless or
// not as before; and where the export is hidden, nothing is new. When it leaves, all
// is as it was.
func TestConflictChangesNoTraffic(t *testing.T) {
	key := federation.ServiceKey{Namespace: "shop", Name: "a"}
	conflicts, hidden := 0, 0
	for seed := range uint64(300) {
		w := newWorld(seed)
		in := w.inputs(t, rand.New(rand.NewPCG(seed, 2)))
		var ch Changes
		in.Set("east", &Import{Name: Name{"shop", "a"}, IPs: []netip.Addr{netip.MustParseAddr("10.97.0.1")}}, &ch)
		prev := Build(nil, in, ch)
		before := prev.Service(key)
		for i, cluster := range []federation.ClusterName{"south", "far"} {
			var ch Changes
			in.SetCluster(ClusterState{Name: cluster, Read: true, Reachable: true, Network: "south"}, &ch)
			w.later(in, cluster, int64(10+i), &ch)
			next := Build(prev, in, ch)
			keepsTraffic(t, seed, prev.Service(key), next.Service(key), cluster)
			for _, p := range next.Problems() {
				if p.Object.Cluster == "east" && p.Reason == mcs.PortConflict {
					conflicts++
				}
			}
			if next.Service(key).HiddenFrom(cluster) {
				hidden++
			}
			prev = next
		}
		for _, cluster := range []federation.ClusterName{"south", "far"} {
			var ch Changes
			in.Remove(cluster, KindExport, Name{"shop", "a"}, &ch)
			prev = Build(prev, in, ch)
		}
		if got := prev.Service(key); !reflect.DeepEqual(got, before) {
			t.Fatalf("seed %d: after all is taken back\n%+v\nwant\n%+v", seed, got, before)
		}
	}
	if conflicts == 0 || hidden == 0 {
		t.Errorf("%d conflicts, %d hidden exports: the test proves nothing", conflicts, hidden)
	}
}

func keepsTraffic(t *testing.T, seed uint64, before, after *federation.Service, younger federation.ClusterName) {
	t.Helper()
	if before.Headless != after.Headless || !slices.Equal(before.VIPs, after.VIPs) || before.SameZone != after.SameZone {
		t.Fatalf("seed %d: %+v, then %+v", seed, before, after)
	}
	for _, p := range before.Ports {
		if now, _ := after.Port(p.Number); now != p {
			t.Fatalf("seed %d: port %v, then %v", seed, p, now)
		}
	}
	now := reachable(after)
	for _, way := range reachable(before) {
		if !slices.Contains(now, way) {
			t.Fatalf("seed %d: %+v is not reached any more: %+v", seed, way, now)
		}
	}
	for _, way := range now {
		if after.HiddenFrom(younger) && !slices.Contains(reachable(before), way) {
			t.Fatalf("seed %d: %+v is reached though %s is hidden", seed, way, younger)
		}
	}
	if after.HiddenFrom(younger) && (!slices.Equal(before.Ports, after.Ports) || !slices.Equal(before.Accounts, after.Accounts)) {
		t.Fatalf("seed %d: a hidden export changes %+v to %+v", seed, before, after)
	}
}
