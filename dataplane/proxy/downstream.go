package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
	"github.com/isthmus-mesh/isthmus/dataplane/proxy/inspect"
	"github.com/isthmus-mesh/isthmus/trust"
)

// downstream is a connection that a listener took. Reads and writes go through
// TLS where there is any. It hides what it wraps, so that net/http does not
// take the mesh's TLS for a browser's.
type downstream struct {
	net.Conn // of the application's bytes

	at        string        // the listener that took it
	raw       net.Conn      // as accepted
	peeked    *inspect.Conn // on top of raw; nil where nothing was looked at
	tls       *tls.Conn     // nil: plaintext
	src, dst  netip.AddrPort
	seen      inspect.Result // by which the chain was chosen; stays as it is then
	peer      *trust.Peer    // nil: no certificate
	direction config.Direction

	mu     sync.Mutex
	closed bool
	ends   []func()  // run at the first Close
	asking int       // requests under way
	idle   time.Time // since when there is none; zero before it is served in HTTP
}

// asks counts requests under way, of which there are n more.
func (d *downstream) asks(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asking += n
	d.idle = time.Now()
}

// idleSince reports whether nothing has been asked since t.
func (d *downstream) idleSince(t time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asking == 0 && !d.idle.IsZero() && d.idle.Before(t)
}

// Close closes the connection and ends its counting. It may be called again.
func (d *downstream) Close() error {
	err := d.Conn.Close()
	d.mu.Lock()
	ends := d.ends
	d.ends, d.closed = nil, true
	d.mu.Unlock()
	for _, end := range ends {
		end()
	}
	return err
}

// atClose runs end when the connection is closed, or at once if it is.
func (d *downstream) atClose(end func()) {
	d.mu.Lock()
	if !d.closed {
		d.ends = append(d.ends, end)
		d.mu.Unlock()
		return
	}
	d.mu.Unlock()
	end()
}

// CloseWrite ends the writing side.
func (d *downstream) CloseWrite() error {
	if half, ok := d.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return d.Conn.Close()
}

// abort closes the connection with a reset, so that the peer does not take
// what it got for all.
func (d *downstream) abort() {
	if tcp, ok := d.raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = d.raw.Close()
	_ = d.Close()
}

// tracker knows the open connections of a chain or of the proxy.
type tracker struct {
	mu    sync.Mutex
	conns map[*downstream]struct{}
	gone  bool
	empty chan struct{} // closed when gone and no connection is left
}

func newTracker() *tracker {
	return &tracker{conns: map[*downstream]struct{}{}, empty: make(chan struct{})}
}

// add returns false when no connection is taken any more.
func (t *tracker) add(d *downstream) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone {
		return false
	}
	t.conns[d] = struct{}{}
	return true
}

func (t *tracker) remove(d *downstream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.conns[d]; !ok {
		return
	}
	delete(t.conns, d)
	if t.gone && len(t.conns) == 0 {
		close(t.empty)
	}
}

// finish takes no more connections; the channel is closed when none is left.
func (t *tracker) finish() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.gone && len(t.conns) == 0 {
		close(t.empty)
	}
	t.gone = true
	return t.empty
}

// closeAll closes the sockets; whoever serves a connection then ends it.
func (t *tracker) closeAll() {
	for _, d := range t.all() {
		_ = d.raw.Close()
	}
}

// closeIdle closes the sockets of whom nothing is asked since before.
func (t *tracker) closeIdle(before time.Time) {
	for _, d := range t.all() {
		if d.idleSince(before) {
			_ = d.raw.Close()
		}
	}
}

func (t *tracker) all() []*downstream {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.conns))
}

// take serves a connection accepted for the listener of that name, or closes
// it where there are too many.
func (p *Proxy) take(conn net.Conn, name string) {
	src := addrPort(conn.RemoteAddr())
	if !p.limits.begin(src.Addr()) {
		p.telemetry.Refused("too_many_connections")
		_ = conn.Close()
		return
	}
	end := p.telemetry.Connection()
	d := &downstream{Conn: conn, at: name, raw: conn, src: src}
	p.conns.Add(1)
	d.atClose(func() {
		p.live.remove(d)
		end()
		p.limits.end(src.Addr())
		p.conns.Done()
	})
	if !p.live.add(d) {
		_ = d.Close()
		return
	}
	p.faults.took(d)
	go p.handle(d, name)
}

// handle finds the chain of a connection and lets it serve.
func (p *Proxy) handle(d *downstream, name string) {
	defer func() {
		if fault := recover(); fault != nil { // one connection must not end all others
			p.log.Error("panic while serving a connection", "listener", name, "err", fmt.Sprint(fault), "stack", string(debug.Stack()))
			d.abort()
		}
	}()
	c, reason, err := p.admit(d, name)
	if err != nil {
		p.refuse(d, reason, err)
		return
	}
	c.serve(d)
}

func (p *Proxy) refuse(d *downstream, reason string, err error) {
	p.telemetry.Refused(reason)
	p.log.Debug("connection refused", "source", d.src.String(), "destination", d.dst.String(), "reason", reason, "err", err)
	_ = d.Close()
}

// admit returns the chain that serves the connection, after inspection and TLS.
// With an error comes the reason for the metric.
func (p *Proxy) admit(d *downstream, name string) (*chain, string, error) {
	if !p.limits.beginShake(d.src.Addr()) {
		return nil, "too_many_handshakes", errShakes
	}
	defer p.limits.endShake(d.src.Addr())
	c, reason, err := p.find(d, name)
	if err != nil {
		return nil, reason, err
	}
	if c.cfg.TLS != nil {
		if err := p.handshake(d, c.cfg.TLS); err != nil {
			return nil, "tls_handshake", err
		}
	}
	for _, access := range c.cfg.Access {
		if !access.Allows(d.peer) {
			return nil, "denied", errDenied
		}
	}
	return c, "", nil
}

// find returns the chain of the connection, which counts among the chain's from
// then on: a change of configuration does not cut short its handshake.
func (p *Proxy) find(d *downstream, name string) (*chain, string, error) {
	for {
		l, err := p.route(d, name)
		if err != nil {
			return nil, "loop_or_unknown", err
		}
		if err := inspectConn(d, l.cfg); err != nil {
			return nil, "inspection", err
		}
		cc := matchChain(l.cfg, d.dst.Port(), d.src.Addr(), d.seen)
		if cc == nil {
			return nil, "no_filter_chain", fmt.Errorf("no filter chain of %s matches port %d, source %s, server name %q, protocols %q",
				l.cfg.Name, d.dst.Port(), d.src.Addr(), d.seen.ServerName, d.seen.Applications)
		}
		d.direction = l.cfg.Direction
		c := l.chains[cc]
		if !c.track(d) {
			continue // the chain was withdrawn this moment; there is another table
		}
		if c.foreign(d) { // its ranges changed this moment
			return nil, "no_filter_chain", fmt.Errorf("source %s was shut out of %s", d.src.Addr(), l.cfg.Name)
		}
		return c, "", nil
	}
}

var (
	errLoop    = errors.New("the destination is this proxy's own listener")
	errForeign = errors.New("the destination is no address of this pod")
	errDenied  = errors.New("the caller may not use this port")
	errShakes  = errors.New("too many handshakes in flight")
)

// route finds the listener of the connection's destination.
func (p *Proxy) route(d *downstream, name string) (*listener, error) {
	t := p.table.Load()
	l := t.byName[name]
	if l == nil {
		return nil, fmt.Errorf("listener %q is gone", name)
	}
	d.dst = addrPort(d.raw.LocalAddr())
	if !l.cfg.UseOriginalDst && !l.cfg.OriginalDst {
		return l, nil
	}
	dst, err := p.opts.OriginalDst(d.raw)
	if err != nil {
		return nil, err
	}
	d.dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	ahead := l.cfg.UseOriginalDst || l.cfg.Direction != config.DirectionNone // a gateway goes elsewhere from here
	if ahead && p.own.contains(d.dst) {
		return nil, errLoop
	}
	if l.cfg.Direction == config.DirectionInbound && !isLocal(d.dst.Addr()) {
		return nil, errForeign // anybody on the link may send such packets to us
	}
	if !l.cfg.UseOriginalDst {
		return l, nil
	}
	if to := t.at(d.dst); to != nil {
		return to, nil
	}
	return l, nil
}

// at returns the listener of an address: the exact one, or that of the port at
// any address.
func (t *table) at(dst netip.AddrPort) *listener {
	if l := t.virtual[dst]; l != nil {
		return l
	}
	any := netip.IPv4Unspecified()
	if dst.Addr().Is6() {
		any = netip.IPv6Unspecified()
	}
	return t.virtual[netip.AddrPortFrom(any, dst.Port())]
}

func inspectConn(d *downstream, l *config.Listener) error {
	if !l.TLSInspector && !l.HTTPInspector {
		return nil
	}
	var deadline time.Time
	if l.InspectTimeout > 0 {
		deadline = time.Now().Add(l.InspectTimeout)
	}
	if d.peeked == nil {
		d.peeked = inspect.NewConn(d.raw)
		d.Conn = d.peeked
	}
	seen, err := inspect.Inspect(d.peeked, l.TLSInspector, l.HTTPInspector, deadline)
	d.seen = seen
	if errors.Is(err, inspect.ErrTimeout) && l.ContinueOnTimeout {
		return nil
	}
	return err
}

func (p *Proxy) handshake(d *downstream, t *config.DownstreamTLS) error {
	if p.opts.Source == nil {
		return trust.ErrNoSVID
	}
	var peer *trust.Peer
	conf := trust.ServerTLS(p.opts.Source, t.ALPN, t.RequireClient, func(got trust.Peer) error {
		if !t.Admits(got) {
			return errors.New("its cluster may not call here")
		}
		peer = &got
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), p.opts.HandshakeTimeout)
	defer cancel()
	conn := tls.Server(d.Conn, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("tls handshake with %s: %w", d.src, err)
	}
	d.Conn, d.tls, d.peer = conn, conn, peer
	return nil
}

func (t *tracker) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns)
}
