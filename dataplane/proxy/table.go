package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
	"github.com/isthmus-mesh/isthmus/fault"
)

// table is the routing of connections at one moment. It does not change.
type table struct {
	cfg     *config.Config
	byName  map[string]*listener
	virtual map[netip.AddrPort]*listener // those that are not bound
	changed chan struct{}                // closed when another table has taken its place
}

// listener is a config.Listener with the chains that serve it.
type listener struct {
	cfg    *config.Listener
	chains map[*config.Chain]*chain
}

func newTable(cfg *config.Config) *table {
	return &table{cfg: cfg, byName: map[string]*listener{}, virtual: map[netip.AddrPort]*listener{}, changed: make(chan struct{})}
}

func (l *listener) all() []*chain { return slices.Collect(maps.Values(l.chains)) }

// Apply switches to the accepted resources, given by type URL and name, at once
// and as a whole. What did not change is not touched: its connections go on.
// The error tells what could not be used (a port that is taken, for instance);
// the rest is in use all the same.
func (p *Proxy) Apply(state map[string]map[string]proto.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errors.New("apply configuration: proxy is closed")
	}
	prev := p.table.Load()
	cfg, buildErr := config.Build(prev.cfg, state)
	p.set.Apply(cfg)
	next := newTable(cfg)
	for _, name := range slices.Sorted(maps.Keys(cfg.Listeners)) {
		next.add(p, prev, cfg.Listeners[name])
	}
	opened, bindErr := p.bind(next)
	for _, l := range next.byName { // before anybody comes by the new ranges
		for cc, c := range l.chains {
			c.settle(l.cfg, cc, p.opts.DrainTimeout)
		}
	}
	p.table.Store(next)
	close(prev.changed)
	for _, s := range opened { // now that there is somebody to serve
		p.conns.Go(s.accept)
	}
	p.unbind(next)
	p.retire(prev, next)
	return errors.Join(buildErr, bindErr)
}

func (t *table) add(p *Proxy, prev *table, lc *config.Listener) {
	l := &listener{cfg: lc, chains: map[*config.Chain]*chain{}}
	old := prev.byName[lc.Name]
	for _, cc := range append(slices.Clone(lc.Chains), lc.Default) {
		if cc == nil {
			continue
		}
		if old != nil {
			l.chains[cc] = old.heir(cc, l)
		}
		if l.chains[cc] == nil {
			l.chains[cc] = newChain(p, lc, cc)
		}
	}
	t.byName[lc.Name] = l
	if lc.Bind {
		return
	}
	for _, addr := range lc.Addresses {
		if t.virtual[addr] == nil { // the first by name
			t.virtual[addr] = l
		}
	}
}

// retire drains the chains of prev that next has no more.
func (p *Proxy) retire(prev, next *table) {
	for name, l := range prev.byName {
		for _, c := range l.chains {
			if now := next.byName[name]; now == nil || !now.has(c) {
				c.drain(p.opts.DrainTimeout)
			}
		}
	}
}

// bind opens the sockets that next wants and that are not open yet, and returns them.
func (p *Proxy) bind(next *table) ([]*socket, error) {
	if p.refuses {
		return nil, nil
	}
	var opened []*socket
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(next.byName)) {
		l := next.byName[name].cfg
		if !l.Bind {
			continue
		}
		for i, addr := range l.Addresses {
			s, err := p.bindOne(name, addr)
			if s != nil {
				opened = append(opened, s)
			}
			if err != nil && i > 0 && noFamily(err) {
				p.log.Info("address family is not available", "listener", name, "address", addr.String())
				continue
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("listener %s: %w", name, err))
			}
		}
	}
	return opened, errors.Join(errs...)
}

// bindOne returns the socket where it had to be opened.
func (p *Proxy) bindOne(name string, addr netip.AddrPort) (*socket, error) {
	if s := p.sockets[addr]; s != nil {
		s.listener.Store(&name)
		return nil, nil
	}
	network := "tcp4"
	if addr.Addr().Is6() {
		network = "tcp6"
	}
	ln, err := p.opts.Listen(context.Background(), network, addr)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", addr, err)
	}
	s := newSocket(p, ln, name)
	p.sockets[addr] = s
	p.own.add(ln.Addr())
	if mode := p.faults.mode(name); mode != fault.None {
		return s, s.behave(mode)
	}
	return s, nil
}

// unbind closes the sockets that next does not want.
func (p *Proxy) unbind(next *table) {
	wanted := map[netip.AddrPort]bool{}
	for _, l := range next.byName {
		if l.cfg.Bind {
			for _, addr := range l.cfg.Addresses {
				wanted[addr] = true
			}
		}
	}
	for addr, s := range p.sockets {
		if !wanted[addr] {
			p.closeSocket(addr, s)
		}
	}
}
