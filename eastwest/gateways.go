package eastwest

import (
	"cmp"
	"math"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation"
)

// addGateways returns pods and the gateways of each other network that has a
// ready endpoint with a sidecar for the port, with their weights.
func (b *builder) addGateways(pods []Hop) []Hop {
	if !b.speaks {
		return pods
	}
	behind := b.behind()
	found := map[federation.NetworkName][]Hop{}
	for network, crowd := range behind {
		found[network] = b.gatewaysOf(network)
		crowd.onto(found[network])
	}
	factor := scale(uint64(len(pods)), behind, found)
	for i := range pods {
		pods[i].Weight *= factor
	}
	for network, hops := range found {
		shareAll(hops, behind[network].used()*factor)
		pods = append(pods, hops...)
	}
	return pods
}

// scale returns by which whole number, at least 1, all weights of an assignment
// are multiplied, so that what is ready behind each network is enough for 1 at
// each of its addresses. It stays below what would take the sum, pods included,
// past what Envoy adds up in 32 bits.
func scale(pods uint64, behind map[federation.NetworkName]crowd, found map[federation.NetworkName][]Hop) uint32 {
	factor, sum := uint64(1), pods
	for network, crowd := range behind {
		ready := uint64(crowd.used())
		most := uint64(1)
		for _, standing := range standings(found[network]) {
			most = max(most, uint64(len(standing)))
			if len(standing) > 0 {
				sum += ready // each has all of it
			}
		}
		factor = max(factor, (most+ready-1)/ready)
	}
	return uint32(max(1, min(factor, math.MaxUint32/max(sum, 1))))
}

// behind counts, for each other network, the ready endpoints of the port that
// have a sidecar. Zones do not matter: a gateway serves its whole network.
func (b *builder) behind() map[federation.NetworkName]crowd {
	out := map[federation.NetworkName]crowd{}
	add := func(network federation.NetworkName, cluster federation.ClusterName, n uint32) {
		out[network] = out[network].with(n, shareOf(b.s, cluster))
	}
	for i := range b.svc.Endpoints {
		e := &b.svc.Endpoints[i]
		if e.Network != b.view.Network && Offered(e, b.port) && b.used(e.Cluster) {
			add(e.Network, e.Cluster, 1)
		}
	}
	for _, c := range b.svc.Counts {
		if c.Port == b.port && c.Network != b.view.Network && c.Ready > 0 && b.used(c.Cluster) {
			add(c.Network, c.Cluster, c.Ready)
		}
	}
	return out
}

// Offered reports whether a gateway of e's network passes connections for port
// on to e: it is ready and has a sidecar.
func Offered(e *federation.Endpoint, port uint16) bool {
	_, ok := e.Target(port)
	return ok && e.Health == federation.Ready && e.Tunnel == federation.TunnelMTLS
}

// gatewaysOf returns the gateway addresses of network as all its clusters that
// are not Lost know them, sorted and without weights.
func (b *builder) gatewaysOf(network federation.NetworkName) []Hop {
	seen := map[netip.AddrPort]int{}
	var hops []Hop
	for _, c := range b.s.Clusters() {
		if c.Network != network || c.Lost {
			continue
		}
		for _, g := range c.Gateways {
			hop := Hop{
				Addr: g.Addr, Gateway: true, Cluster: c.Name, Network: network, Locality: c.Locality,
				Tunnel: federation.TunnelMTLS, rank: b.gatewayRank(c, g.Silent), returning: returningOf(c.Drain.ShareOf()),
			}
			if i, ok := seen[g.Addr]; !ok {
				seen[g.Addr] = len(hops)
				hops = append(hops, hop)
			} else if cmp.Or(hop.rank.compare(hops[i].rank), cmp.Compare(hop.held, hops[i].held)) < 0 {
				hops[i] = hop
			}
		}
	}
	slices.SortFunc(hops, func(a, b Hop) int { return a.Addr.Compare(b.Addr) })
	return hops
}

// shareAll divides total among the gateways of a network that are in use, and
// once more among those that are drained and those that are silent: they stand
// for it when nothing else is left.
func shareAll(hops []Hop, total uint32) {
	for _, standing := range standings(hops) {
		share(standing, total)
	}
}

// standings parts the gateways of a network: in use, drained, silent.
func standings(hops []Hop) (out [3][]*Hop) {
	for i := range hops {
		h, at := &hops[i], 0
		switch {
		case h.rank.class == classSilent:
			at = 2
		case h.rank.drained:
			at = 1
		}
		out[at] = append(out[at], h)
	}
	return out
}

// share divides total among hops, as evenly as whole numbers allow and at least
// 1 each; the first get the remainder.
func share(hops []*Hop, total uint32) {
	for n, h := range hops {
		h.Weight = total / uint32(len(hops))
		if uint32(n) < total%uint32(len(hops)) {
			h.Weight++
		}
		h.Weight = max(h.Weight, 1)
	}
}
