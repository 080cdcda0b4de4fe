package ingest

import (
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/api"
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

// controlPlanes returns the addresses of isthmusd's pods, sorted: the ready ones, or
// those that end where no other is there. What is no pod is another cluster's.
func (c *cluster) controlPlanes(namespace string) []netip.Addr {
	found := map[federation.Health][]netip.Addr{}
	for _, s := range c.slicesOf[Name{namespace, api.ControlPlaneName}] {
		for i := range s.Endpoints {
			if e := &s.Endpoints[i]; e.Pod != "" && special(e.Addr) == "" {
				found[e.Health] = append(found[e.Health], e.Addr)
			}
		}
	}
	out := found[federation.Ready]
	if len(out) == 0 {
		out = found[federation.Terminating]
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// inside returns Inside and ShutOut of a served cluster.
func (c *cluster) inside() (inside []netip.Prefix, shutOut []netip.Addr) {
	for p := range c.ranges.at {
		inside = append(inside, p)
	}
	for _, p := range c.pods {
		for _, a := range c.outside(p) {
			inside = append(inside, netip.PrefixFrom(a, a.BitLen()))
		}
		shutOut = append(shutOut, c.shut(p)...)
	}
	slices.SortFunc(shutOut, netip.Addr.Compare)
	return merge(inside), slices.Compact(shutOut)
}

// entryFrom returns EntryFrom of a served cluster: nil where none was given.
func (in *Inputs) entryFrom() []netip.Prefix {
	if in.EntryFrom == nil {
		return nil
	}
	masked := make([]netip.Prefix, 0, len(in.EntryFrom))
	for _, p := range in.EntryFrom {
		masked = append(masked, p.Masked())
	}
	if merged := merge(masked); merged != nil {
		return merged
	}
	return masked // none at all may call
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
func (c *cluster) touchInside(old, now *Pod, ch *Changes) {
	if !c.Served {
		return
	}
	if !slices.Equal(c.shut(old), c.shut(now)) || !slices.Equal(c.outside(old), c.outside(now)) {
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
