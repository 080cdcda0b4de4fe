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

// place is where a chain stands in the configuration of its listener, which
// changes while the chain goes on.
type place struct {
	listener *config.Listener
	chain    *config.Chain
}

// settle says where the chain stands from now on. Connections that are foreign
// there have timeout left.
func (c *chain) settle(l *config.Listener, cc *config.Chain, timeout time.Duration) {
	now := &place{l, cc}
	if was := c.place.Swap(now); was.listener == l || !was.bySource() && !now.bySource() || c.conns.len() == 0 {
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

// bySource reports whether addresses decide about chains of the listener.
func (p *place) bySource() bool {
	return slices.ContainsFunc(p.listener.Chains, func(c *config.Chain) bool { return c.Match.Sources != nil })
}

// foreign reports whether the address of d is shut out of the chain: the
// listener has no chain for d any more, or by its source another one that does
// something else. (A chain for its port that came later does not end it.)
func (c *chain) foreign(d *downstream) bool {
	at := c.place.Load()
	now := matchChain(at.listener, d.dst.Port(), d.src.Addr(), d.seen)
	if now == nil || now == at.chain || now.SameButSources(at.chain) {
		return now == nil
	}
	_, ok := at.chain.Match.Sources.Find(d.src.Addr())
	return !ok || now.Match.SameButSources(at.chain.Match)
}

func (c *chain) closeForeign() {
	for _, d := range c.conns.all() {
		if c.foreign(d) {
			_ = d.raw.Close()
		}
	}
}
