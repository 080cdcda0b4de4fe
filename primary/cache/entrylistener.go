package cache

import (
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// entryListener is the listener of a cluster's entry gateways, and all that it
// was made from.
type entryListener struct {
	from     []netip.Prefix
	shutOut  []netip.Addr
	resource *resources.Resource
}

// entryListener returns what entry gateways of g have beside services. It is made
// anew only where other callers may come. While their cluster was not read, from
// where they come is not known, which is not the same as from nowhere.
func (c *Cache) entryListener(g *groupState) []*resources.Resource {
	cluster := c.snapshot.Cluster(g.group.Cluster)
	if cluster == nil {
		return c.lastEntry(g)
	}
	from := cluster.Inside
	if cluster.EntryFrom != nil {
		from = cluster.EntryFrom
	}
	if !cluster.Read && len(from) == 0 {
		return c.lastEntry(g)
	}
	old := g.entry
	if old == nil || !slices.Equal(old.from, from) || !slices.Equal(old.shutOut, cluster.ShutOut) {
		r, err := resources.NewEntry(from, cluster.ShutOut)
		if err != nil {
			c.log.Error("entry listener cannot be made", "cluster", cluster.Name, "err", err)
			return c.lastEntry(g)
		}
		g.entry = &entryListener{from, cluster.ShutOut, r}
	}
	return c.lastEntry(g)
}

func (c *Cache) lastEntry(g *groupState) []*resources.Resource {
	if g.entry == nil {
		return nil
	}
	return []*resources.Resource{g.entry.resource}
}
