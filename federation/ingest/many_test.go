package ingest

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
)

// Sixteen thousand headless pods behind another network are read in one walk:
// where each is compared with all others, this takes most of a minute.
func TestManySyntheticAddresses(t *testing.T) {
	const pods, of = 16_000, 1000
	in := NewInputs(testDomain(t), "isthmus-system")
	var ch Changes
	for _, c := range []federation.ClusterName{"east", "west"} {
		in.SetCluster(ClusterState{Name: c, Local: c == "east", Served: c == "east", Read: true, Reachable: true, Network: federation.NetworkName(c)}, &ch)
	}
	n := Name{"shop", "db"}
	for at := range pods / of {
		s := &Slice{Name: Name{"shop", fmt.Sprint("db-", at)}, Service: "db", Source: "west"}
		for i := at * of; i < (at+1)*of; i++ {
			s.Endpoints = append(s.Endpoints, SliceEndpoint{Pod: fmt.Sprint("db-", i), Addr: netip.AddrFrom4([4]byte{240, 241, byte(i >> 8), byte(i)})})
		}
		in.Set("east", s, &ch)
	}
	b := &builder{in: in, names: in.ClusterNames(), networks: in.networks()}
	out := &federation.Service{Headless: true}
	began := time.Now()
	b.allotted(out, n)
	if took := time.Since(began); len(out.Synthetic) != pods || took > 5*time.Second {
		t.Errorf("%d addresses in %v, problems %v", len(out.Synthetic), took, b.problems)
	}
	for i := range pods {
		e := &federation.Endpoint{Cluster: "west", Pod: fmt.Sprint("db-", i)}
		if a, ok := out.SyntheticFor("east", e); !ok || a != netip.AddrFrom4([4]byte{240, 241, byte(i >> 8), byte(i)}) {
			t.Fatalf("pod %d: %v %v", i, a, ok)
		}
	}
	for _, e := range []federation.Endpoint{{Cluster: "east", Pod: "db-1"}, {Cluster: "west", Pod: "db"}, {Cluster: "west", Pod: "zz"}} {
		if a, ok := out.SyntheticFor("east", &e); ok {
			t.Errorf("%s of %s: %v", e.Pod, e.Cluster, a)
		}
	}
}

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}
