package ingest

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/mcs"
)

// large is 50 clusters on 25 networks with 100 services of three pods each, all
// exported, and 20 nodes each.
func large(tb testing.TB) *Inputs {
	in := NewInputs(testDomain(tb), "isthmus-system")
	var ch Changes
	for c := range 50 {
		name := federation.ClusterName(fmt.Sprint("c", c))
		in.SetCluster(ClusterState{Name: name, Local: c == 0, Served: c == 0, Read: true, Reachable: true, Network: federation.NetworkName(fmt.Sprint("n", c/2))}, &ch)
		for n := range 20 {
			in.Set(name, &Node{Node: fmt.Sprint("node", n), CIDRs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(c), byte(n), 0}), 24)}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, byte(c), byte(n + 1)})}}, &ch)
		}
		for s := range 100 {
			addService(in, name, c, s, &ch)
		}
	}
	return in
}

func addService(in *Inputs, cluster federation.ClusterName, c, s int, ch *Changes) {
	id := Name{"shop", fmt.Sprintf("s%d-%d", c, s)}
	port := mcs.Port{Name: "http", Transport: mcs.TCP, Number: 80}
	in.Set(cluster, &Service{Name: id, IPs: []netip.Addr{netip.AddrFrom4([4]byte{172, 16, byte(c), byte(s)})}, Ports: []ServicePort{{Port: port, Protocol: ParseProtocol(port)}}}, ch)
	in.Set(cluster, &Export{Name: id, Since: time.Unix(int64(s), 0).UTC()}, ch)
	slice := &Slice{Name: Name{"shop", id.Name + "-1"}, Service: id.Name, Ports: []SlicePort{{"http", 8080}}}
	for p := range 3 {
		pod := Name{"shop", fmt.Sprintf("%s-%d", id.Name, p)}
		addr := netip.AddrFrom4([4]byte{10, byte(c), byte(s % 20), byte(s/20*10 + p + 1)})
		in.Set(cluster, &Pod{Name: pod, Account: "app", Addrs: []netip.Addr{addr}, Injected: true, Node: fmt.Sprint("node", s%20)}, ch)
		slice.Endpoints = append(slice.Endpoints, SliceEndpoint{Addr: addr, Pod: pod.Name, Node: fmt.Sprint("node", s%20)})
	}
	in.Set(cluster, slice, ch)
}

func BenchmarkBuildAll(b *testing.B) {
	in := large(b)
	for b.Loop() {
		Build(nil, in, Changes{})
	}
}

// One endpoint of one of 5,000 services changes.
func BenchmarkBuildOneEndpoint(b *testing.B) {
	in := large(b)
	prev := Build(nil, in, Changes{})
	health := federation.Ready
	for b.Loop() {
		health = 2 - health
		var ch Changes
		old := in.clusters["c7"].slices[Name{"shop", "s7-7-1"}]
		now := *old
		now.Endpoints = append([]SliceEndpoint{}, old.Endpoints...)
		now.Endpoints[0].Health = health
		in.Set("c7", &now, &ch)
		prev = Build(prev, in, ch)
	}
}
