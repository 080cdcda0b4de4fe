package ingest

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/federation"
)

// failover adds to the cluster.local service of cluster c what other clusters
// have behind the clusterset service of that name, where the export asks for it:
// for those ports whose number the two have in common, whatever they are called,
// as mcs.Resolve has it.
func (b *builder) failover(out *federation.Service, c *cluster, n Name, set together) {
	e := c.exports[n]
	if e == nil || !e.Failover || out.Headless || set.Service == nil || !slices.ContainsFunc(set.Exports, func(x federation.Export) bool { return x.Cluster == c.Name }) {
		return
	}
	out.Failover = true
	common := map[uint16]bool{}
	for _, p := range set.Ports {
		_, common[p.Number] = out.Port(p.Number)
	}
	hidden := map[federation.ClusterName]bool{}
	for _, x := range set.Exports {
		if hidden[x.Cluster] = x.Hidden; !x.Hidden {
			out.Exports = append(out.Exports, x)
		}
	}
	for _, x := range set.Endpoints {
		if x.Cluster == c.Name || hidden[x.Cluster] {
			continue
		}
		x.Others = nil
		x.Ports = slices.DeleteFunc(slices.Clone(x.Ports), func(p federation.EndpointPort) bool { return !common[p.Service] })
		if len(x.Ports) > 0 {
			out.Endpoints = append(out.Endpoints, x)
		}
	}
	for _, x := range set.Counts {
		if x.Cluster != c.Name && common[x.Port] {
			out.Counts = append(out.Counts, x)
		}
	}
	slices.SortFunc(out.Endpoints, func(a, b federation.Endpoint) int { return a.Compare(&b) })
	out.Accounts = accounts(out.Endpoints, set.known)
}
