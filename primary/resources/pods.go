package resources

import (
	"net/netip"

	"github.com/isthmus-mesh/isthmus/eastwest"
	"github.com/isthmus-mesh/isthmus/federation"
)

// Pod returns how names call the pod of e: POD for a service of one cluster,
// POD.CLUSTER for one of the clusterset, where pods may share a name.
func Pod(key federation.ServiceKey, e *federation.Endpoint) string {
	if key.ClusterSet() {
		return e.Pod + "." + string(e.Cluster)
	}
	return e.Pod
}

// PodPort is a port of one pod of a headless service and where it is called:
// the client found the address in DNS.
type PodPort struct {
	Endpoint *federation.Endpoint
	Number   uint16         // of the service
	Addr     netip.AddrPort // the pod's own, or a synthetic one; with the port that the pod listens on
	Distant  bool           // on another network, so behind gateways
}

// Key returns the name of p's resources.
func (p PodPort) Key(svc *federation.Service) OutboundKey {
	return OutboundKey{Service: svc.Key, Port: p.Number, Pod: Pod(svc.Key, p.Endpoint)}
}

// synthetics finds the addresses that stand for a service's pods in one cluster.
type synthetics map[place]netip.Addr

type place struct {
	cluster federation.ClusterName
	pod     string
}

func syntheticsOf(svc *federation.Service, in federation.ClusterName) synthetics {
	out := synthetics{}
	for _, a := range svc.Synthetic {
		if a.In == in {
			out[place{a.Of, a.Pod}] = a.Addr
		}
	}
	return out
}

// Pods returns, for a port of a headless service, the pods that have a listener
// of their own at proxies of view: those of its network that have a name, and
// those of other networks that have a sidecar and a synthetic address in its
// cluster.
func Pods(s *federation.Snapshot, svc *federation.Service, port uint16, view View) []PodPort {
	var out []PodPort
	hidden := hiddenIn(svc)
	stand := syntheticsOf(svc, view.Cluster)
	for i := range svc.Endpoints {
		e := &svc.Endpoints[i]
		target, ok := e.Target(port)
		if c := s.Cluster(e.Cluster); !ok || e.Pod == "" || hidden[e.Cluster] || c != nil && c.Lost {
			continue
		}
		if !svc.Key.ClusterSet() && e.Cluster != svc.Key.Cluster {
			continue // there for failover, which a chosen pod has none of
		}
		p := PodPort{Endpoint: e, Number: port, Addr: netip.AddrPortFrom(e.Addr, target)}
		if e.Network != view.Network {
			addr, ok := stand[place{e.Cluster, e.Pod}]
			if !ok || !view.MTLS || e.Tunnel != federation.TunnelMTLS || e.Account.IsZero() {
				continue
			}
			p.Addr, p.Distant = netip.AddrPortFrom(addr, target), true
		}
		if p.Addr.Addr().IsValid() {
			out = append(out, p)
		}
	}
	return out
}

// hiddenIn returns the clusters whose export of svc is Hidden; nil where none is.
func hiddenIn(svc *federation.Service) map[federation.ClusterName]bool {
	var out map[federation.ClusterName]bool
	for i := range svc.Exports {
		if svc.Exports[i].Hidden {
			if out == nil {
				out = map[federation.ClusterName]bool{}
			}
			out[svc.Exports[i].Cluster] = true
		}
	}
	return out
}

// PodView is everything that may change the load assignment of one pod, but for
// its name: what stands there of it, and for a distant one who looks and by what
// topology. It is comparable.
type PodView struct {
	Hop      eastwest.Hop
	View     View
	Topology string // as its maker writes it; only compared
}

// ViewedBy returns what view sees of p in a topology, as narrow as can be.
func (p PodPort) ViewedBy(view View, topology string) PodView {
	if p.Distant {
		return PodView{Hop: eastwest.Hop{Network: p.Endpoint.Network}, View: view, Topology: topology}
	}
	v := PodView{View: View{MTLS: view.MTLS && !p.Endpoint.Account.IsZero()}}
	v.Hop = podHop(p.Endpoint, p.Addr)
	return v
}

// NewPodEndpoints returns the load assignment of one pod of a headless service,
// which has p: that pod, ready or not, since the client chose it, or the
// gateways of its network.
func NewPodEndpoints(s *federation.Snapshot, svc *federation.Service, p PodPort, view View) (*Resource, error) {
	name, e := p.Key(svc).String(), p.Endpoint
	if p.Distant {
		return loadAssignment(name, eastwest.PodHops(svc, e, view, s), true)
	}
	var hops []eastwest.Hop
	if e.Tunnel == federation.TunnelNone || view.MTLS && !e.Account.IsZero() {
		hops = append(hops, podHop(e, p.Addr))
	}
	return loadAssignment(name, hops, true)
}

func podHop(e *federation.Endpoint, addr netip.AddrPort) eastwest.Hop {
	return eastwest.Hop{
		Addr: addr, Cluster: e.Cluster, Network: e.Network, Locality: e.Locality, Pod: e.Pod, Tunnel: e.Tunnel, Weight: 1,
	}
}
