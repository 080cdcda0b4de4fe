package ingest

import (
	"fmt"
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

// claim says that a range of addresses belongs to a cluster's pods or nodes.
type claim struct {
	cluster federation.ClusterName
	network federation.NetworkName
	prefix  netip.Prefix
}

// claims collects the ranges of all clusters, as their Nodes say.
func claims(in *Inputs, networks map[federation.ClusterName]federation.NetworkName) []claim {
	var out []claim
	for _, c := range in.clusters {
		network := networks[c.Name]
		for _, n := range c.nodes {
			for _, p := range n.CIDRs {
				out = append(out, claim{c.Name, network, p})
			}
			for _, a := range n.Addrs {
				out = append(out, claim{c.Name, network, netip.PrefixFrom(a, a.BitLen())})
			}
		}
	}
	slices.SortFunc(out, compareClaims)
	return out
}

// claimed says whose range of the same network the address of cluster c is in,
// or "". Ranges of different networks may overlap and say nothing.
func (b *builder) claimed(c *cluster, a netip.Addr) string {
	network, why := b.networks[c.Name], ""
	for _, r := range b.ranges {
		if r.cluster == c.Name || r.network != network || !r.prefix.Contains(a) {
			continue
		}
		if other := b.in.clusters[r.cluster]; other.Local || why == "" {
			why = fmt.Sprintf("in %s, which belongs to cluster %s of the same network", r.prefix, r.cluster)
		}
	}
	return why
}
