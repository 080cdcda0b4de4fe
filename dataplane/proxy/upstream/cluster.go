package upstream

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
)

// hostKey tells hosts apart: the same address over another transport is
// another host.
type hostKey struct {
	addr  netip.AddrPort
	match string
}

// Cluster is an xds cluster at work. Its configuration never changes: a changed
// one makes a new Cluster, and the old one drains.
type Cluster struct {
	cfg    *config.Cluster
	dialer *Dialer

	requests, pending, retries, conns atomic.Int64

	mu         sync.Mutex // guards the rest
	assignment *config.Assignment
	ready      chan struct{} // closed when hosts are known
	hosts      map[hostKey]*Host
	levels     []*level
	stale      bool      // levels' health has to be counted anew
	validUntil time.Time // ... or at this time; zero means never
}

func newCluster(cfg *config.Cluster, dialer *Dialer) *Cluster {
	c := &Cluster{cfg: cfg, dialer: dialer, ready: make(chan struct{}), hosts: map[hostKey]*Host{}}
	if cfg.Type == config.ClusterOriginalDst {
		close(c.ready)
	}
	return c
}

// Config returns the configuration that made the cluster.
func (c *Cluster) Config() *config.Cluster { return c.cfg }

// assign takes over a load assignment, keeping hosts that stay. old gives the
// record of hosts of the cluster that this one replaces; it may be nil.
func (c *Cluster) assign(a *config.Assignment, old *Cluster) {
	if a == nil || c.cfg.Type == config.ClusterOriginalDst {
		return
	}
	c.mu.Lock()
	if c.assignment == a {
		c.mu.Unlock()
		return
	}
	first := c.assignment == nil
	c.assignment = a
	next := map[hostKey]*Host{}
	c.levels = c.levels[:0:0]
	for _, p := range a.Priorities {
		c.levels = append(c.levels, c.buildLevel(p, next, old))
	}
	gone := c.hosts
	c.hosts, c.stale = next, true
	c.mu.Unlock()
	for key, h := range gone {
		if next[key] != h {
			h.drain()
		}
	}
	if first {
		close(c.ready)
	}
}

func (c *Cluster) buildLevel(p config.Priority, next map[hostKey]*Host, old *Cluster) *level {
	l := &level{}
	for i := range p.Localities {
		loc := &p.Localities[i]
		g := &group{weight: int64(loc.Weight)}
		for j := range loc.Hosts {
			h := c.keepHost(&loc.Hosts[j], old)
			next[hostKey{h.Addr, matchKey(loc.Hosts[j].Match)}] = h
			g.members = append(g.members, &member{host: h, weight: int64(loc.Hosts[j].Weight), health: loc.Hosts[j].Health})
		}
		l.groups = append(l.groups, g)
	}
	l.shuffle()
	if !c.cfg.LocalityWeight || l.totalWeight() == 0 {
		l.flatten()
	}
	return l
}

func (c *Cluster) keepHost(info *config.Host, old *Cluster) *Host {
	key := hostKey{info.Addr, matchKey(info.Match)}
	if h := c.hosts[key]; h != nil {
		h.info.Store(info)
		return h
	}
	h := newHost(c, info)
	if old != nil {
		if before := old.host(key); before != nil {
			h.outlier = before.record()
		}
	}
	return h
}

func (c *Cluster) host(key hostKey) *Host {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hosts[key]
}

// Original returns the host for addr of an ORIGINAL_DST cluster.
func (c *Cluster) Original(addr netip.AddrPort) *Host {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := hostKey{addr: addr}
	h := c.hosts[key]
	if h == nil {
		h = newHost(c, &config.Host{Addr: addr, Weight: 1})
		c.hosts[key] = h
	}
	h.touch(time.Now())
	return h
}

// Hosts returns the hosts by address.
func (c *Cluster) Hosts() []*Host {
	c.mu.Lock()
	hosts := slices.Collect(maps.Values(c.hosts))
	c.mu.Unlock()
	slices.SortFunc(hosts, func(a, b *Host) int { return a.Addr.Compare(b.Addr) })
	return hosts
}

func (c *Cluster) dirty() {
	c.mu.Lock()
	c.stale = true
	c.mu.Unlock()
}

func (c *Cluster) drain() {
	for _, h := range c.Hosts() {
		h.drain()
	}
}

// sweep closes what is idle or over age, and forgets original destinations that
// nobody has called for a minute. Hosts without connections cost nothing.
func (c *Cluster) sweep(now time.Time) {
	var open []*Host
	c.mu.Lock()
	for key, h := range c.hosts {
		switch {
		case h.conns.Load() > 0:
			open = append(open, h)
		case c.cfg.Type == config.ClusterOriginalDst && h.unusedSince(now.Add(-time.Minute)):
			delete(c.hosts, key)
		}
	}
	c.mu.Unlock()
	for _, h := range open {
		h.sweep(now)
	}
}

// transportOf returns how a host with this metadata is called; nil is plaintext.
func (c *Cluster) transportOf(match map[string]string) *config.UpstreamTLS {
	for i := range c.cfg.Sockets {
		s := &c.cfg.Sockets[i]
		if containsAll(match, s.Match) {
			return s.TLS
		}
	}
	return c.cfg.Socket
}

func containsAll(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

func matchKey(m map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b.WriteString(k + "=" + m[k] + "\x00")
	}
	return b.String()
}
