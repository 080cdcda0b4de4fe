package controllers

import "github.com/isthmus-mesh/isthmus/federation"

// counts are what a link tells of its cluster: its exports, and ready endpoints.
type counts struct{ exports, endpoints int32 }

// tally counts every cluster's exports. What a snapshot changes costs what has
// changed. The zero tally is that of nothing; it is its user's alone.
type tally struct {
	snap    *federation.Snapshot
	follow  follower
	cluster map[federation.ClusterName]counts
}

// of returns what cluster has in s.
func (t *tally) of(s *federation.Snapshot, cluster federation.ClusterName) counts {
	if t.snap != s {
		t.snap = s
		if t.cluster == nil {
			t.cluster = map[federation.ClusterName]counts{}
		}
		for _, c := range t.follow.next(s) {
			t.add(c.old, -1)
			t.add(c.now, 1)
		}
	}
	return t.cluster[cluster]
}

// add counts what svc has, sign times; svc may be nil.
func (t *tally) add(svc *federation.Service, sign int32) {
	if svc == nil {
		return
	}
	note := func(cluster federation.ClusterName, exports, endpoints int32) {
		c := t.cluster[cluster]
		t.cluster[cluster] = counts{c.exports + sign*exports, c.endpoints + sign*endpoints}
	}
	for i := range svc.Exports {
		note(svc.Exports[i].Cluster, 1, 0)
	}
	for i := range svc.Endpoints {
		if svc.Endpoints[i].Health == federation.Ready {
			note(svc.Endpoints[i].Cluster, 0, 1)
		}
	}
	for _, c := range svc.Counts {
		note(c.Cluster, 0, int32(c.Ready))
	}
}
