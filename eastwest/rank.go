package eastwest

import (
	"cmp"

	"github.com/isthmus-mesh/isthmus/federation"
)

// rank orders hops by nearness; equal ranks share a priority. What is drained
// comes after all that is not, however near, and a silent gateway last: both are
// for when nothing else is left.
type rank struct {
	class    int  // own cluster, own network, another network, silent
	drained  bool // a silent gateway never is: nothing is worse than silence
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
	return cmp.Or(compareBool(r.class == classSilent, o.class == classSilent), compareBool(r.drained, o.drained),
		cmp.Compare(r.class, o.class), compareBool(r.far, o.far), cmp.Compare(r.priority, o.priority))
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
	drained := shareOf(b.s, e.Cluster) == 0
	if e.Cluster == b.view.Cluster {
		return rank{class: classOwn, drained: drained, far: b.svc.SameZone && b.view.Zone != "" && e.Locality.Zone != b.view.Zone}
	}
	c := b.s.Cluster(e.Cluster)
	if c == nil {
		return rank{class: classNetwork, far: true}
	}
	return rank{class: classNetwork, drained: drained, far: b.otherRegion(c), priority: c.Priority}
}

func (b *builder) gatewayRank(c *federation.Cluster, silent bool) rank {
	if silent {
		return rank{class: classSilent}
	}
	return rank{class: classRemote, drained: c.Drain.ShareOf() == 0, far: b.otherRegion(c), priority: c.Priority}
}

// otherRegion reports whether c is known to be in the view's own region; an
// unknown region is nobody's own.
func (b *builder) otherRegion(c *federation.Cluster) bool {
	return b.region == "" || c.Locality.Region != b.region
}
