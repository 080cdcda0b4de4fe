package eastwest

import (
	"cmp"

	"github.com/isthmus-mesh/isthmus/federation"
)

// rank orders hops by nearness; equal ranks share a priority. A silent gateway
// comes last, however near, since it is for when nothing else is left.
type rank struct {
	class    int  // own cluster, own network, another network, silent
	far      bool // another region, or in the own cluster another zone where zones matter
	priority int  // of the cluster
}

const (
	classOwn = iota
	classNetwork
	classRemote
	classSilent
)

func (r rank) compare(o rank) int {
	return cmp.Or(cmp.Compare(r.class, o.class), compareBool(r.far, o.far), cmp.Compare(r.priority, o.priority))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// rank returns the rank of a pod of the own network.
func (b *builder) rank(e *federation.Endpoint) rank {
	if e.Cluster == b.view.Cluster {
		return rank{class: classOwn, far: b.svc.SameZone && b.view.Zone != "" && e.Locality.Zone != b.view.Zone}
	}
	c := b.s.Cluster(e.Cluster)
	if c == nil {
		return rank{class: classNetwork, far: true}
	}
	return rank{class: classNetwork, far: b.otherRegion(c), priority: c.Priority}
}

func (b *builder) gatewayRank(c *federation.Cluster, silent bool) rank {
	if silent {
		return rank{class: classSilent}
	}
	return rank{class: classRemote, far: b.otherRegion(c), priority: c.Priority}
}

// otherRegion reports whether c is known to be in the view's own region; an
// unknown region is nobody's own.
func (b *builder) otherRegion(c *federation.Cluster) bool {
	return b.region == "" || c.Locality.Region != b.region
}
