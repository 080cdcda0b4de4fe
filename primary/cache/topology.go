package cache

import (
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/federation"
)

// topology is what the clusters of a snapshot do to resources, as comparable
// text: their networks, regions, priorities, losses, drains and gateways. How long
// something has been so is not in it, since nobody is sent that.
type topology struct {
	all  string
	each map[federation.ClusterName]string
}

func topologyOf(s *federation.Snapshot) topology {
	t := topology{each: map[federation.ClusterName]string{}}
	var all strings.Builder
	for _, c := range s.Clusters() {
		var b strings.Builder
		fmt.Fprintf(&b, "%q %q %q %d %t", c.Name, c.Network, c.Locality, c.Priority, c.Lost)
		for _, g := range c.Gateways {
			fmt.Fprintf(&b, " %v/%t", g.Addr, g.Silent)
		}
		t.each[c.Name] = b.String() // without its drain: nobody stands beside its own endpoints
		fmt.Fprintf(&b, " %d\n", c.Drain.ShareOf())
		all.WriteString(b.String())
	}
	t.all = all.String()
	return t
}

// orSame returns old where it says the same, so that comparing with it is quick.
func (t topology) orSame(old topology) topology {
	if t.all == old.all {
		return old
	}
	return t
}

// of returns what of the topology concerns svc.
func (t topology) of(svc *federation.Service) string {
	if svc.Key.ClusterSet() || svc.Failover {
		return t.all
	}
	return t.each[svc.Key.Cluster]
}

// gaps says what the snapshot cannot know yet. What is absent because of a gap
// is not gone.
type gaps struct {
	blank  bool // some cluster was neither read nor found in the checkpoint
	unread map[federation.ClusterName]bool
}

func gapsOf(s *federation.Snapshot) gaps {
	g := gaps{unread: map[federation.ClusterName]bool{}}
	for _, c := range s.Clusters() {
		if !c.Read && !c.Lost {
			g.unread[c.Name] = true
		}
	}
	if len(g.unread) == 0 {
		return g
	}
	known := map[federation.ClusterName]bool{}
	for svc := range s.Services() {
		for _, e := range svc.Exports {
			known[e.Cluster] = known[e.Cluster] || e.Checkpoint
		}
	}
	for name := range g.unread {
		g.blank = g.blank || !known[name]
	}
	return g
}
