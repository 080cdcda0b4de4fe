package eastwest

import (
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation"
)

// gateways returns the gateways of each other network that has a ready
// endpoint with a sidecar for the port.
func (b *builder) gateways() []Hop {
	if !b.speaks {
		return nil
	}
	behind := b.behind()
	var hops []Hop
	for network, ready := range behind {
		hops = append(hops, b.gatewaysOf(network, ready)...)
	}
	return hops
}

// behind counts, for each other network, the ready endpoints of the port that
// have a sidecar. Zones do not matter: a gateway serves its whole network.
func (b *builder) behind() map[federation.NetworkName]uint32 {
	out := map[federation.NetworkName]uint32{}
	for i := range b.svc.Endpoints {
		e := &b.svc.Endpoints[i]
		if e.Network != b.view.Network && Offered(e, b.port) && b.used(e.Cluster) {
			out[e.Network]++
		}
	}
	for _, c := range b.svc.Counts {
		if c.Port == b.port && c.Network != b.view.Network && c.Ready > 0 && b.used(c.Cluster) {
			out[c.Network] += c.Ready
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
// are not Lost know them. The answering ones share ready among themselves, and
// so do the silent ones.
func (b *builder) gatewaysOf(network federation.NetworkName, ready uint32) []Hop {
	seen := map[netip.AddrPort]int{}
	var hops []Hop
	for _, c := range b.s.Clusters() {
		if c.Network != network || c.Lost {
			continue
		}
		for _, g := range c.Gateways {
			hop := Hop{
				Addr: g.Addr, Gateway: true, Cluster: c.Name, Network: network, Locality: c.Locality,
				Tunnel: federation.TunnelMTLS, rank: b.gatewayRank(c, g.Silent),
			}
			if i, ok := seen[g.Addr]; !ok {
				seen[g.Addr] = len(hops)
				hops = append(hops, hop)
			} else if hop.rank.compare(hops[i].rank) < 0 {
				hops[i] = hop
			}
		}
	}
	share(hops, ready, func(h Hop) bool { return h.rank.class != classSilent })
	share(hops, ready, func(h Hop) bool { return h.rank.class == classSilent })
	return hops
}

// share divides total among those hops that belong, as evenly as whole numbers
// allow and at least 1 each; the first by address get the remainder.
func share(hops []Hop, total uint32, belongs func(Hop) bool) {
	slices.SortFunc(hops, func(a, b Hop) int { return a.Addr.Compare(b.Addr) })
	var mine []int
	for i, h := range hops {
		if belongs(h) {
			mine = append(mine, i)
		}
	}
	for n, i := range mine {
		weight := total / uint32(len(mine))
		if uint32(n) < total%uint32(len(mine)) {
			weight++
		}
		hops[i].Weight = max(weight, 1)
	}
}
