package ingest

import (
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/mcs"
)

// The number of a port decides whether a local name fails over, not what the
// clusters call it: the oldest export's name is the import's.
func TestFailoverGoesByNumber(t *testing.T) {
	in := NewInputs(testDomain(t), "isthmus-system")
	var ch Changes
	n := Name{"shop", "web"}
	for i, c := range []federation.ClusterName{"west", "east"} {
		in.SetCluster(ClusterState{Name: c, Local: c == "east", Served: c == "east", Read: true, Reachable: true, Network: "one"}, &ch)
		name := []string{"http", "web"}[i]
		in.Set(c, &Service{Name: n, IPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Ports: []ServicePort{
			{Port: mcs.Port{Name: name, Transport: mcs.TCP, Number: 80}}, {Port: mcs.Port{Name: "more", Transport: mcs.TCP, Number: uint16(90 + i)}},
		}}, &ch)
		in.Set(c, &Export{Name: n, Since: time.Unix(int64(1.7e9+i), 0).UTC(), Terms: Terms{Failover: c == "east"}}, &ch)
		in.Set(c, &Slice{Name: Name{"shop", "web-1"}, Service: "web", Ports: []SlicePort{{name, 8080}, {"more", 9090}}, Endpoints: []SliceEndpoint{{Addr: netip.AddrFrom4([4]byte{10, byte(i), 0, 1})}}}, &ch)
	}
	svc := Build(nil, in, ch).Service(federation.ServiceKey{Cluster: "east", Namespace: "shop", Name: "web"})
	far := 0
	for _, e := range svc.Endpoints {
		if e.Cluster == "west" {
			far++
			if target, ok := e.Target(80); !ok || target != 8080 || len(e.Ports) != 1 {
				t.Errorf("west's ports %v", e.Ports)
			}
		}
	}
	if !svc.Failover || far != 1 {
		t.Errorf("failover %v, endpoints %+v", svc.Failover, svc.Endpoints)
	}
}
