package cache

import (
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/federation"
)

// Member is a proxy that is kept up to date until it is closed.
type Member struct {
	cache   *Cache
	proxy   Proxy
	group   *groupState
	state   atomic.Pointer[State]
	changed chan struct{}
	memo    memo
}

// Join makes p a member. Close must be called in the end.
func (c *Cache) Join(p Proxy) *Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.groups[p.Group]
	if g == nil {
		g = &groupState{group: p.Group, parts: map[federation.ServiceKey]*part{}}
		c.groups[p.Group] = g
		if c.snapshot != nil {
			c.updateGroup(g, c.all())
		}
	}
	g.members++
	m := &Member{cache: c, proxy: p, group: g, changed: make(chan struct{}, 1)}
	c.members[m] = true
	if c.snapshot != nil {
		c.updateMember(m, c.inbound)
	}
	return m
}

// Close ends the membership. It may be called once.
func (m *Member) Close() {
	m.cache.mu.Lock()
	defer m.cache.mu.Unlock()
	delete(m.cache.members, m)
	if m.group.members--; m.group.members == 0 {
		delete(m.cache.groups, m.group.group)
		for _, e := range m.cache.entries {
			delete(e.parts, m.group.group)
		}
	}
}

// State returns what the proxy is to be sent, or nil before the first snapshot.
func (m *Member) State() *State { return m.state.Load() }

// Changed is sent to after State changed, at most once for any number of
// changes since it was last received from.
func (m *Member) Changed() <-chan struct{} { return m.changed }

// updateMember is called with the cache locked.
func (c *Cache) updateMember(m *Member, used map[string]*Set) {
	g := m.proxy.Group
	next := &State{Shared: m.group.set, Since: c.updated, limits: limits{unread: c.gaps.unread[g.Cluster], blank: c.gaps.blank}}
	next.known = g.Kind != Sidecar
	if !next.known {
		next.Own, next.known = c.own(m, used)
	}
	old := m.state.Load()
	if old != nil && old.Shared == next.Shared && old.Own == next.Own && old.limits == next.limits {
		return
	}
	m.state.Store(next)
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Proxy returns who the member is.
func (m *Member) Proxy() Proxy { return m.proxy }
