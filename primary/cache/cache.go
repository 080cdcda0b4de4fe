package cache

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// Proxy is who a member of the cache is.
type Proxy struct {
	Group    Group
	Workload federation.WorkloadKey // of a sidecar: its pod
	Identity string                 // the SPIFFE ID that it proved
}

// Cache turns snapshots into States. It is safe for concurrent use.
type Cache struct {
	log    *slog.Logger
	static map[Kind][]*resources.Resource // what every proxy of a kind has

	mu       sync.Mutex
	snapshot *federation.Snapshot // nil before the first
	primary  federation.ClusterName
	remotes  []federation.ClusterName // that primary serves
	updated  time.Time
	topology topology
	gaps     gaps
	entries  map[federation.ServiceKey]*entry // of every service of snapshot
	taken    map[federation.ServiceKey]string // as takenEntries gave it
	groups   map[Group]*groupState
	members  map[*Member]bool
	inbound  map[string]*Set // by InboundView.Key
	problems map[federation.ServiceKey]string
}

// New returns an empty cache; log may be nil.
func New(log *slog.Logger) *Cache {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Cache{
		log:      log,
		static:   map[Kind][]*resources.Resource{Sidecar: sidecarStatic(log), EastWest: eastWestStatic(log)},
		entries:  map[federation.ServiceKey]*entry{},
		groups:   map[Group]*groupState{},
		members:  map[*Member]bool{},
		inbound:  map[string]*Set{},
		problems: map[federation.ServiceKey]string{},
	}
}

// Update brings every member to snapshot s, which must not be nil, and wakes
// those whose State changed. It looks at each service once, and for each group
// only at those that changed.
func (c *Cache) Update(s *federation.Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.snapshot, c.updated, c.gaps = s, time.Now(), gapsOf(s)
	c.topology = topologyOf(s).orSame(c.topology)
	c.spread(c.renew())
}

// refresh makes everything anew that comes from no service. Under mu.
func (c *Cache) refresh() { c.spread(nil) }

// spread brings changed services to all groups and members. Under mu.
func (c *Cache) spread(changed []federation.ServiceKey) {
	for _, g := range c.groups {
		c.updateGroup(g, changed)
	}
	for _, key := range changed {
		if e := c.entries[key]; e != nil {
			e.old = nil
		}
	}
	used := map[string]*Set{}
	for m := range c.members {
		c.updateMember(m, used)
	}
	c.inbound = used
}

// updateGroup brings g to the current snapshot, in which those services changed
// since g's last.
func (c *Cache) updateGroup(g *groupState, changed []federation.ServiceKey) {
	static := c.static[g.group.Kind]
	switch g.group.Kind {
	case Entry:
		static = c.entryListener(g)
	case EastWest:
		static = c.eastWest(g)
	case Sidecar:
	}
	g.update(c.snapshot, changed, static, func(svc *federation.Service) *part {
		p, err := c.entries[svc.Key].partOf(c.snapshot, g.group)
		if err != nil && c.problems[svc.Key] != err.Error() {
			c.problems[svc.Key] = err.Error()
			c.log.Warn("service left out of xds", "service", svc.Key.Hostname(), "err", err)
		}
		return p
	})
}

// all returns the keys of all services of the current snapshot.
func (c *Cache) all() []federation.ServiceKey {
	out := make([]federation.ServiceKey, 0, len(c.entries))
	for svc := range c.snapshot.Services() {
		out = append(out, svc.Key)
	}
	return out
}

// Problems returns what could not be expressed to somebody, by service.
func (c *Cache) Problems() map[federation.ServiceKey]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[federation.ServiceKey]string, len(c.problems))
	for _, g := range c.groups {
		maps.Copy(out, g.clashes)
	}
	maps.Copy(out, c.problems)
	return out
}

func sidecarStatic(log *slog.Logger) []*resources.Resource {
	return makeAll(log, resources.NewOutbound, resources.NewPassthrough, func() (*resources.Resource, error) {
		return resources.NewInboundCluster(0, false)
	})
}

func eastWestStatic(log *slog.Logger) []*resources.Resource {
	return makeAll(log, resources.NewEastWest)
}

// makeAll calls makers that have only constants to work from, so that an error
// is a fault of this program.
func makeAll(log *slog.Logger, makers ...generator) []*resources.Resource {
	var out []*resources.Resource
	for _, m := range makers {
		r, err := m()
		if err != nil {
			log.Error("static resource cannot be made", "err", err)
			continue
		}
		out = append(out, r)
	}
	return out
}

// Groups returns the groups that have members, in no order.
func (c *Cache) Groups() []Group {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Group
	for g := range c.groups {
		out = append(out, g)
	}
	return slices.Clip(out)
}
