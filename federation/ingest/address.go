package ingest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation"
)

// special says why no pod and no gateway has that address, or "".
func special(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "no IP address"
	case a.IsUnspecified():
		return "unspecified"
	case a.IsLoopback():
		return "loopback"
	case a.IsLinkLocalUnicast():
		return "link-local (metadata services live there)"
	case a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "multicast or broadcast"
	case slices.Contains(metadata(), a):
		return "a cloud's metadata service"
	}
	return ""
}

// metadata lists the metadata services outside the link-local ranges: AWS over
// IPv6, Alibaba and Azure.
func metadata() []netip.Addr {
	return []netip.Addr{
		netip.MustParseAddr("fd00:ec2::254"),
		netip.MustParseAddr("100.100.100.200"),
		netip.MustParseAddr("168.63.129.16"),
	}
}

// claims tells which clusters of one network have which ranges, for their pods
// and nodes. It is searched by prefix length, of which there are few.
type claims struct {
	bits map[int]bool
	at   map[netip.Prefix][]federation.ClusterName // sorted
}

// newClaims collects, as the Nodes say, the ranges of each network that has
// several clusters.
func newClaims(in *Inputs, networks map[federation.ClusterName]federation.NetworkName) map[federation.NetworkName]*claims {
	members := map[federation.NetworkName]int{}
	for _, n := range networks {
		members[n]++
	}
	out := map[federation.NetworkName]*claims{}
	for _, name := range in.ClusterNames() {
		network := networks[name]
		if members[network] < 2 {
			continue
		}
		if out[network] == nil {
			out[network] = &claims{map[int]bool{}, map[netip.Prefix][]federation.ClusterName{}}
		}
		for _, n := range in.clusters[name].nodes {
			for _, p := range n.CIDRs {
				out[network].add(name, p)
			}
			for _, a := range n.Addrs {
				out[network].add(name, netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	return out
}

func (c *claims) add(cluster federation.ClusterName, p netip.Prefix) {
	c.bits[p.Bits()] = true
	if owners := c.at[p]; !slices.Contains(owners, cluster) {
		c.at[p] = append(owners, cluster)
	}
}

// claimed says whose range of the same network the address of cluster c is in,
// or "". Ranges of different networks may overlap and say nothing.
func (b *builder) claimed(c *cluster, a netip.Addr) string {
	table := b.claims[b.networks[c.Name]]
	if table == nil {
		return ""
	}
	for _, bits := range slices.Sorted(maps.Keys(table.bits)) {
		p, err := a.Prefix(bits)
		if err != nil {
			continue // of the other family
		}
		for _, owner := range table.at[p] {
			if owner != c.Name {
				return fmt.Sprintf("in %s, which belongs to cluster %s of the same network", p, owner)
			}
		}
	}
	return ""
}
