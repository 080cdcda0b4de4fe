package cache

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// Serve tells which remotes the control plane of primary serves, sorted: its
// gateway is their way to it. None closes that way.
func (c *Cache) Serve(primary federation.ClusterName, remotes []federation.ClusterName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.primary == primary && slices.Equal(c.remotes, remotes) {
		return
	}
	c.primary, c.remotes = primary, slices.Clone(remotes)
	if c.snapshot != nil {
		c.refresh()
	}
}

// eastWest returns what a gateway has that comes from no service of the clusterset.
func (c *Cache) eastWest(g *groupState) []*resources.Resource {
	if len(c.remotes) == 0 || g.group.Cluster != c.primary {
		return c.static[EastWest]
	}
	made, err := resources.NewRemotes(c.snapshot, c.primary, c.remotes)
	if err != nil {
		c.log.Error("the gateway's way for remotes cannot be made", "err", err)
		made = nil
	}
	for i, r := range made {
		made[i] = sameOr(g.static, r)
	}
	return append(slices.Clip(c.static[EastWest]), made...)
}

// sameOr returns the one of old that is r, so that nobody is sent it again.
func sameOr(old []*resources.Resource, r *resources.Resource) *resources.Resource {
	for _, o := range old {
		if o.Type == r.Type && o.Name == r.Name && o.Version == r.Version {
			return o
		}
	}
	return r
}

// withdrawStatic removes what the group had by itself and has no more.
func (g *groupState) withdrawStatic(ed *edit, now []*resources.Resource) {
	for _, o := range g.static {
		if !slices.ContainsFunc(now, func(r *resources.Resource) bool { return r.Type == o.Type && r.Name == o.Name }) {
			ed.remove(o.Type, o.Name)
		}
	}
	g.static = now
}
