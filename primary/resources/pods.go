package resources

import (
	"net/netip"

	"github.com/isthmus-mesh/isthmus/eastwest"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/trust"
)

// Pod returns how names call the pod of e: POD for a service of one cluster,
// POD.CLUSTER for one of the clusterset, where pods may share a name.
func Pod(key federation.ServiceKey, e *federation.Endpoint) string {
	if key.ClusterSet() {
		return e.Pod + "." + string(e.Cluster)
	}
	return e.Pod
}

// endpointOf returns the endpoint that Pod named so, or nil.
func endpointOf(svc *federation.Service, pod string) *federation.Endpoint {
	for i := range svc.Endpoints {
		if e := &svc.Endpoints[i]; e.Pod != "" && Pod(svc.Key, e) == pod {
			return e
		}
	}
	return nil
}

// Pods returns the endpoints of a headless service that have a listener of
// their own: those of the view's network that have a name.
func Pods(s *federation.Snapshot, svc *federation.Service, port uint16, network federation.NetworkName) []PodListener {
	var out []PodListener
	for i := range svc.Endpoints {
		e := &svc.Endpoints[i]
		target, ok := e.Target(port)
		if c := s.Cluster(e.Cluster); !ok || e.Pod == "" || e.Network != network || c != nil && c.Lost {
			continue
		}
		out = append(out, PodListener{Pod: Pod(svc.Key, e), Addr: netip.AddrPortFrom(e.Addr, target), Account: e.Account})
	}
	return out
}

// PodListener is a pod of a headless service and where it is called: the
// client found the pod's own address in DNS.
type PodListener struct {
	Pod     string
	Addr    netip.AddrPort
	Account trust.ID
}

// NewPodEndpoints returns the load assignment of one pod of a headless service.
// The client chose this pod, ready or not, so it is all that stands there.
func NewPodEndpoints(svc *federation.Service, port uint16, pod string, mtls bool) (*Resource, error) {
	var hops []eastwest.Hop
	if e := endpointOf(svc, pod); e != nil {
		target, ok := e.Target(port)
		if ok && (e.Tunnel == federation.TunnelNone || mtls && !e.Account.IsZero()) {
			hops = append(hops, eastwest.Hop{
				Addr:    netip.AddrPortFrom(e.Addr, target),
				Cluster: e.Cluster, Network: e.Network, Locality: e.Locality, Pod: e.Pod, Tunnel: e.Tunnel, Weight: 1,
			})
		}
	}
	return loadAssignment(OutboundKey{Service: svc.Key, Port: port, Pod: pod}.String(), hops, true)
}
