package precheck

import (
	"fmt"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/trust"
)

// together finds what is wrong with clusters only because of one another.
func together(all []facts) []Finding {
	var out []Finding
	for i, a := range all {
		if a.uid == "" {
			continue // not reached
		}
		if !trust.ValidCluster(a.name) {
			out = append(out, Finding{a.context, "cluster name", Bad, fmt.Sprintf("%q is not a DNS label", a.name), "isthmus install --cluster-name " + a.context + "=NAME"})
		}
		for _, b := range all[i+1:] {
			if b.uid != "" {
				out = append(out, pair(a, b)...)
			}
		}
	}
	return out
}

func pair(a, b facts) []Finding {
	var out []Finding
	where := a.context + ", " + b.context
	if a.uid == b.uid {
		return []Finding{{where, "clusters", Bad, "both contexts lead to the same cluster", "name each cluster once"}}
	}
	if a.name == b.name {
		out = append(out, Finding{where, "cluster name", Bad, fmt.Sprintf("both are called %q", a.name), "isthmus install --cluster-name " + b.context + "=OTHER"})
	}
	if x, y, ok := overlap(a.podCIDRs, b.podCIDRs); ok && a.network == b.network {
		out = append(out, Finding{where, "pod ranges", Bad, fmt.Sprintf("%s and %s overlap on one network", x, y), "put them on networks of their own: --network"})
	} else if ok {
		out = append(out, Finding{where, "pod ranges", OK, fmt.Sprintf("%s and %s overlap, which is fine on two networks", x, y), ""})
	}
	return out
}

func overlap(a, b []string) (x, y netip.Prefix, ok bool) {
	for _, s := range a {
		for _, t := range b {
			p, err1 := netip.ParsePrefix(s)
			q, err2 := netip.ParsePrefix(t)
			if err1 == nil && err2 == nil && p.Overlaps(q) {
				return p, q, true
			}
		}
	}
	return x, y, false
}
