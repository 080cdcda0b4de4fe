package meshtest

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/federation"
)

func (p *parser) cluster(w words) error {
	priority, _ := strconv.Atoi(w.keyed["priority"])
	c := &federation.Cluster{
		Name:     federation.ClusterName(w.at(0)),
		Network:  federation.NetworkName(w.keyed["network"]),
		Locality: federation.Locality{Region: w.keyed["region"]},
		Priority: priority,
		Local:    w.has("local"), Read: w.has("read"), Reachable: !w.has("unreachable"), Lost: w.has("lost"),
	}
	for g := range strings.SplitSeq(w.keyed["gateways"], ",") {
		if g == "" {
			continue
		}
		addr, silent := strings.CutSuffix(g, "/silent")
		a, err := netip.ParseAddrPort(addr)
		if err != nil {
			return err
		}
		c.Gateways = append(c.Gateways, federation.Gateway{Addr: a, Silent: silent})
	}
	slices.SortFunc(c.Gateways, func(a, b federation.Gateway) int { return a.Addr.Compare(b.Addr) })
	var err error
	if c.Drain, err = federation.ParseDrain(w.keyed["drain"]); err != nil {
		return err
	}
	p.parts.Clusters[c.Name] = c
	return ranges(c, w)
}

// ranges reads a cluster's addresses for entry gateways.
func ranges(c *federation.Cluster, w words) (err error) {
	if c.ControlPlanes, err = list(w.keyed["controlplanes"], netip.ParseAddr); err != nil {
		return err
	}
	if c.Entries, err = list(w.keyed["entries"], netip.ParseAddr); err != nil {
		return err
	}
	if c.ShutOut, err = list(w.keyed["shutout"], netip.ParseAddr); err != nil {
		return err
	}
	if c.Inside, err = list(w.keyed["inside"], netip.ParsePrefix); err != nil {
		return err
	}
	if c.EntryFrom, err = list(w.keyed["entryfrom"], netip.ParsePrefix); err != nil {
		return err
	}
	slices.SortFunc(c.Entries, netip.Addr.Compare)
	slices.SortFunc(c.ShutOut, netip.Addr.Compare)
	slices.SortFunc(c.Inside, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return nil
}
