package cache

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/federation"
)

// renew brings the entries to the current snapshot, and returns the services
// that are new, changed or gone.
func (c *Cache) renew() (changed []federation.ServiceKey) {
	count, moved := 0, false // some entry port
	for svc := range c.snapshot.Services() {
		count++
		old, topology := c.entries[svc.Key], c.topology.of(svc)
		if old != nil && old.svc == svc && old.topology == topology {
			continue
		}
		moved = moved || old == nil && len(svc.EntryPorts) > 0 || old != nil && !slices.Equal(old.svc.EntryPorts, svc.EntryPorts)
		c.remake(svc, topology, old)
		changed = append(changed, svc.Key)
	}
	if len(c.entries) > count {
		for key, old := range c.entries {
			if c.snapshot.Service(key) == nil {
				moved = moved || len(old.svc.EntryPorts) > 0
				delete(c.entries, key)
				delete(c.problems, key)
				changed = append(changed, key)
			}
		}
	}
	if moved {
		changed = c.retake(changed)
	}
	return changed
}

func (c *Cache) remake(svc *federation.Service, topology string, old *entry) {
	c.entries[svc.Key] = newEntry(svc, topology, c.taken[svc.Key], old)
	delete(c.problems, svc.Key)
}

// retake decides anew who has which port at entry gateways, and adds to changed
// the services for which that makes a difference.
func (c *Cache) retake(changed []federation.ServiceKey) []federation.ServiceKey {
	before := c.taken
	c.taken = takenEntries(c.snapshot)
	for _, m := range []map[federation.ServiceKey]string{before, c.taken} {
		for key := range m {
			e := c.entries[key]
			switch {
			case e == nil || e.taken == c.taken[key]:
			case slices.Contains(changed, key):
				e.taken = c.taken[key] // made just now, and not used yet
			default:
				c.remake(e.svc, e.topology, e)
				changed = append(changed, key)
			}
		}
	}
	return changed
}
