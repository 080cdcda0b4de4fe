package cache

import (
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// entryListener is the listener of a cluster's entry gateways, and all that it
// was made from.
type entryListener struct {
	inside   []netip.Prefix
	shutOut  []netip.Addr
	resource *resources.Resource
}

// entryListener returns what entry gateways of g have beside services. It is made
// anew only where other callers may come. While their cluster was not read, from
// where they come is not known, which is not the same as from nowhere.
func (c *Cache) entryListener(g *groupState) []*resources.Resource {
	cluster := c.snapshot.Cluster(g.group.Cluster)
	if cluster == nil || !cluster.Read && len(cluster.Inside) == 0 {
		return c.lastEntry(g)
	}
	old := g.entry
	if old == nil || !slices.Equal(old.inside, cluster.Inside) || !slices.Equal(old.shutOut, cluster.ShutOut) {
		r, err := resources.NewEntry(cluster.Inside, cluster.ShutOut)
		if err != nil {
			c.log.Error("entry listener cannot be made", "cluster", cluster.Name, "err", err)
			return c.lastEntry(g)
		}
		g.entry = &entryListener{cluster.Inside, cluster.ShutOut, r}
	}
	return c.lastEntry(g)
}

func (c *Cache) lastEntry(g *groupState) []*resources.Resource {
	if g.entry == nil {
		return nil
	}
	return []*resources.Resource{g.entry.resource}
}
