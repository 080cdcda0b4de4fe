package ingest

import (
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation"
)

// entries returns the addresses of the cluster's ready entry gateways, sorted.
func (c *cluster) entries() []netip.Addr {
	var out []netip.Addr
	for of := range c.entryServices {
		for _, s := range c.slicesOf[of] {
			for i := range s.Endpoints {
				if e := &s.Endpoints[i]; e.Health == federation.Ready && special(e.Addr) == "" {
					out = append(out, e.Addr)
				}
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// inside returns Inside and ShutOut of a served cluster.
func (in *Inputs) inside(c *cluster) (inside []netip.Prefix, shutOut []netip.Addr) {
	if in.EntryFrom != nil {
		for _, p := range in.EntryFrom {
			inside = append(inside, p.Masked())
		}
	} else {
		for p := range c.ranges.at {
			inside = append(inside, p)
		}
	}
	for _, p := range c.pods {
		if in.EntryFrom == nil {
			for _, a := range c.outside(p) {
				inside = append(inside, netip.PrefixFrom(a, a.BitLen()))
			}
		}
		shutOut = append(shutOut, c.shut(p)...)
	}
	slices.SortFunc(shutOut, netip.Addr.Compare)
	return merge(inside), slices.Compact(shutOut)
}

// outside returns the addresses of a pod that are in no range of the nodes; p
// may be nil.
func (c *cluster) outside(p *Pod) []netip.Addr {
	if p == nil || p.Done {
		return nil
	}
	var out []netip.Addr
	for _, a := range p.Addrs {
		if special(a) == "" && !c.ranges.has(a) {
			out = append(out, a)
		}
	}
	return out
}

// shut returns the addresses of a pod where its namespace is shut out; p may be
// nil. Those of the host network are its node's, so others call from there too.
func (c *cluster) shut(p *Pod) []netip.Addr {
	if p == nil || p.Done || p.HostNetwork {
		return nil
	}
	if n := c.namespaces[Name{Name: p.Namespace}]; n == nil || !n.Refused {
		return nil
	}
	return p.Addrs
}

// touchInside marks the cluster where Inside or ShutOut changes with a pod.
func (c *cluster) touchInside(in *Inputs, old, now *Pod, ch *Changes) {
	if !c.Served {
		return
	}
	if !slices.Equal(c.shut(old), c.shut(now)) || in.EntryFrom == nil && !slices.Equal(c.outside(old), c.outside(now)) {
		ch.inside(c.Name)
	}
}

// merge sorts ranges and drops those within another.
func merge(all []netip.Prefix) []netip.Prefix {
	slices.SortFunc(all, netip.Prefix.Compare)
	var out []netip.Prefix
	for _, p := range all { // a wider one comes before those within it
		if len(out) == 0 || !out[len(out)-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out
}
