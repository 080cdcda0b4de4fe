package proxy

import (
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
)

// heir returns the chain of l that goes on under cc: the one of the same
// configuration, or else one that differs in its source ranges alone. (A node
// more must not end the connections of all others.) nil where there is none.
func (l *listener) heir(cc *config.Chain, next *listener) *chain {
	if c := l.chains[cc]; c != nil {
		return c
	}
	for _, old := range l.cfg.Chains {
		c := l.chains[old]
		if old.SameButSources(cc) && !slices.Contains(next.cfg.Chains, old) && !next.has(c) {
			return c
		}
	}
	return nil
}

// has reports whether c serves a chain of l.
func (l *listener) has(c *chain) bool {
	return slices.Contains(l.all(), c)
}

// setSources says from where connections may come from now on. Those from
// elsewhere have timeout left.
func (c *chain) setSources(s *config.Sources, timeout time.Duration) {
	if c.sources.Swap(s) == s || !slices.ContainsFunc(c.conns.all(), c.foreign) {
		return
	}
	c.proxy.conns.Go(func() {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		select {
		case <-c.closed:
		case <-timer.C:
			c.closeForeign()
		}
	})
}

// foreign reports whether d is from where the chain takes no connections.
func (c *chain) foreign(d *downstream) bool {
	_, ok := c.sources.Load().Find(d.src.Addr())
	return !ok
}

func (c *chain) closeForeign() {
	for _, d := range c.conns.all() {
		if c.foreign(d) {
			_ = d.raw.Close()
		}
	}
}
