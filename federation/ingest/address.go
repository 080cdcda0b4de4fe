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

// claims tells which clusters have which ranges, for their pods and nodes. Each
// is counted by nodes, and they are searched by prefix length, of which there
// are few.
type claims struct {
	bits map[int]int
	at   map[netip.Prefix]map[federation.ClusterName]int
}

func newClaims() claims {
	return claims{map[int]int{}, map[netip.Prefix]map[federation.ClusterName]int{}}
}

// add counts a node's ranges in or, where by is -1, out; n may be nil.
func (c claims) add(cluster federation.ClusterName, n *Node, by int) {
	if n == nil {
		return
	}
	for _, p := range n.prefixes() {
		if c.bits[p.Bits()] += by; c.bits[p.Bits()] == 0 {
			delete(c.bits, p.Bits())
		}
		if c.at[p] == nil {
			c.at[p] = map[federation.ClusterName]int{}
		}
		if c.at[p][cluster] += by; c.at[p][cluster] == 0 {
			delete(c.at[p], cluster)
		}
		if len(c.at[p]) == 0 {
			delete(c.at, p)
		}
	}
}

// claimed says whose range of the same network the address of cluster c is in,
// or "". Ranges of different networks may overlap and say nothing.
func (b *builder) claimed(c *cluster, a netip.Addr) string {
	for _, bits := range slices.Sorted(maps.Keys(b.in.claims.bits)) {
		p, err := a.Prefix(bits)
		if err != nil {
			continue // of the other family
		}
		var first federation.ClusterName
		for owner := range b.in.claims.at[p] {
			if owner != c.Name && b.networks[owner] == b.networks[c.Name] && (first == "" || owner < first) {
				first = owner
			}
		}
		if first != "" {
			return fmt.Sprintf("in %s, which belongs to cluster %s of the same network", p, first)
		}
	}
	return ""
}
