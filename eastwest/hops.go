package eastwest

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation"
)

// View is everything about a proxy that may change its hops. It is comparable,
// since it is part of a cache key too, and small, so that the proxies of a
// cluster share one load assignment.
type View struct {
	Cluster federation.ClusterName
	Network federation.NetworkName
	Zone    string // empty unless the service prefers near endpoints
	MTLS    bool   // the proxy speaks the mesh's mTLS
	Entry   bool   // an entry gateway, and some export of the service refuses those
}

// Hop is an address to dial for a port of a service: a pod of the own network,
// or a gateway of another.
type Hop struct {
	Addr     netip.AddrPort
	Gateway  bool // of Network; else a pod
	Cluster  federation.ClusterName
	Network  federation.NetworkName
	Locality federation.Locality // of the pod, or of the gateway's cluster
	Pod      string              // empty for gateways and bare addresses
	Tunnel   federation.Tunnel
	Priority uint32 // 0 is used first; without gaps
	Weight   uint32 // at least 1; for a gateway its share of the ready endpoints behind, in pods' weights
	rank     rank
	returning
}

// Hops returns how view reaches port of svc: each address once, sorted by
// priority, cluster and address. Endpoints of clusters that are Lost or whose
// export is Hidden are left out, and so is what the view does not speak. Pods
// that terminate are there only where the view can reach nobody else, in any
// priority: they may still answer. An empty result means that nobody does.
func Hops(svc *federation.Service, port uint16, view View, s *federation.Snapshot) []Hop {
	b := newBuilder(svc, port, view, s)
	hops := b.addGateways(b.pods(federation.Ready))
	if len(hops) == 0 {
		hops = b.pods(federation.Terminating)
	}
	return prioritise(hops)
}

// PodHops returns how view reaches one pod, with a sidecar, of another network:
// by that network's gateways, which know the pod by its own server name. They
// are all there, silent ones too, whether the pod is ready or not, so that other
// pods of the service change nothing.
func PodHops(svc *federation.Service, e *federation.Endpoint, view View, s *federation.Snapshot) []Hop {
	b := newBuilder(svc, 0, view, s)
	if !view.MTLS || e.Tunnel != federation.TunnelMTLS || e.Account.IsZero() || !b.used(e.Cluster) {
		return nil
	}
	hops := b.gatewaysOf(e.Network)
	shareAll(hops, 1)
	return prioritise(hops)
}

type builder struct {
	svc    *federation.Service
	port   uint16
	view   View
	s      *federation.Snapshot
	region string                          // of the view's cluster
	speaks bool                            // mTLS to this service: somebody may answer, and the view can
	hidden map[federation.ClusterName]bool // clusters whose export is not for the view
}

func newBuilder(svc *federation.Service, port uint16, view View, s *federation.Snapshot) *builder {
	b := &builder{svc: svc, port: port, view: view, s: s, speaks: view.MTLS && len(svc.Accounts) > 0}
	if own := s.Cluster(view.Cluster); own != nil {
		b.region = own.Locality.Region
	}
	for i := range svc.Exports {
		if e := &svc.Exports[i]; e.Hidden || view.Entry && e.NoEntry {
			if b.hidden == nil {
				b.hidden = map[federation.ClusterName]bool{}
			}
			b.hidden[e.Cluster] = true
		}
	}
	return b
}

// used reports whether endpoints of cluster are: it is not lost, and its export
// is for the view.
func (b *builder) used(cluster federation.ClusterName) bool {
	return !b.hidden[cluster] && !b.lost(cluster)
}

// pods returns the endpoints of the own network that are in health h.
func (b *builder) pods(h federation.Health) []Hop {
	var hops []Hop
	for i := range b.svc.Endpoints {
		e := &b.svc.Endpoints[i]
		target, ok := e.Target(b.port)
		if !ok || e.Health != h || e.Network != b.view.Network || !b.used(e.Cluster) {
			continue
		}
		if e.Tunnel == federation.TunnelMTLS && !b.speaks {
			continue
		}
		hops = append(hops, Hop{
			Addr:    netip.AddrPortFrom(e.Addr, target),
			Cluster: e.Cluster, Network: e.Network, Locality: e.Locality, Pod: e.Pod,
			Tunnel: e.Tunnel, Weight: 1,
			rank: b.rank(e), returning: returningOf(shareOf(b.s, e.Cluster)),
		})
	}
	return hops
}

// lost reports whether nothing of cluster is used any more. A cluster that the
// snapshot does not know is not lost: its endpoints came from somewhere. Nor is
// the view's own: its proxies are there to ask.
func (b *builder) lost(cluster federation.ClusterName) bool {
	c := b.s.Cluster(cluster)
	return c != nil && c.Lost && cluster != b.view.Cluster
}

// prioritise drops addresses that stand there twice (the better rank stays),
// numbers the ranks from 0 and sorts. Ranks of returning hops alone are in one
// priority with the next one that others have, if any does.
func prioritise(hops []Hop) []Hop {
	slices.SortFunc(hops, func(a, b Hop) int {
		return cmp.Or(a.rank.compare(b.rank), cmp.Compare(a.Cluster, b.Cluster), a.Addr.Compare(b.Addr), cmp.Compare(a.Pod, b.Pod))
	})
	seen := map[netip.AddrPort]bool{}
	hops = slices.DeleteFunc(hops, func(h Hop) bool {
		twice := seen[h.Addr]
		seen[h.Addr] = true
		return twice || !h.Addr.IsValid() || h.Addr.Port() == 0
	})
	steady := lastSteady(hops)
	first, priority := 0, uint32(0)
	for i := range hops {
		if i > 0 && hops[i].rank != hops[i-1].rank && (i > steady || !allReturn(hops[first:i])) {
			weigh(hops[first:i])
			first, priority = i, priority+1
		}
		hops[i].Priority = priority
	}
	weigh(hops[first:])
	return hops
}
