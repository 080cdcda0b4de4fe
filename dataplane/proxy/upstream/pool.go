package upstream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
)

type httpProto uint8

const (
	protoH1 httpProto = iota
	protoH2
)

// pool holds a host's HTTP connections of one version.
type pool struct {
	host      *Host
	proto     httpProto
	options   config.HTTPOptions
	transport func() *http.Transport // made at the first call

	mu      sync.Mutex
	conns   []*pooled
	next    int // where the search begins, so that load is spread
	dialing int
	waiting int
	turn    *turn // ends when a dial has ended or capacity came free
	drained bool
}

// turn is what those wait for who cannot be served yet.
type turn struct {
	over chan struct{}
	err  error // of the dial that ended it; set before over is closed
}

func newTurn() *turn { return &turn{over: make(chan struct{})} }

// pooled is one connection and what it has done.
type pooled struct {
	cc    *http.ClientConn
	conn  *Conn
	born  time.Time
	used  uint32    // requests begun
	since time.Time // idle since; zero while in use
}

func (p *pool) init(h *Host, proto httpProto) {
	p.host, p.proto = h, proto
	p.turn = newTurn()
	p.options = config.HTTPOptions{MaxStreams: 100, IdleTimeout: time.Hour}
	if o := h.Cluster.cfg.HTTP; o != nil {
		p.options = *o
	}
	p.transport = sync.OnceValue(func() *http.Transport { return newTransport(proto, p.options) })
}

type connKey struct{}

// newTransport returns a transport that speaks over the connection in the
// context; it neither dials nor pools.
func newTransport(proto httpProto, o config.HTTPOptions) *http.Transport {
	t := &http.Transport{
		DisableCompression:     true,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return ctx.Value(connKey{}).(*Conn), nil
		},
		Protocols: new(http.Protocols),
	}
	if proto == protoH1 {
		t.Protocols.SetHTTP1(true)
		return t
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: o.PingInterval, PingTimeout: o.PingTimeout, MaxReceiveBufferPerStream: 1 << 20}
	return t
}

// acquire returns a connection with a slot reserved, and whether it had been
// used before.
func (p *pool) acquire(ctx context.Context) (*pooled, bool, error) {
	for {
		p.mu.Lock()
		if pc, reused := p.reserve(time.Now()); pc != nil {
			p.mu.Unlock()
			return pc, reused, nil
		}
		if p.proto == protoH1 || p.waiting >= p.dialing*int(p.streams()) {
			p.dialing++
			p.mu.Unlock()
			return p.open(ctx)
		}
		p.waiting++
		turn := p.turn
		p.mu.Unlock()
		err := p.wait(ctx, turn)
		p.mu.Lock()
		p.waiting--
		p.mu.Unlock()
		if err != nil {
			return nil, false, err
		}
	}
}

// wait shares the failure of the dial that was waited for: to dial once more for
// each who waits would only take their time.
func (p *pool) wait(ctx context.Context, t *turn) error {
	select {
	case <-t.over:
		return t.err
	case <-ctx.Done():
		return &ConnectError{Addr: p.host.Addr, Err: ctx.Err()}
	}
}

func (p *pool) streams() uint32 {
	if p.proto == protoH1 {
		return 1
	}
	return max(1, p.options.MaxStreams)
}

// reserve finds a connection with room. The caller holds mu.
func (p *pool) reserve(now time.Time) (*pooled, bool) {
	p.prune(now)
	n := len(p.conns)
	for i := range n {
		pc := p.conns[(p.next+i)%n]
		if uint32(pc.cc.InFlight()) >= p.streams() || pc.cc.Reserve() != nil {
			continue
		}
		p.next = (p.next + i + 1) % n
		reused := pc.used > 0
		pc.used++
		pc.since = time.Time{}
		return pc, reused
	}
	return nil, false
}

// prune forgets connections that are dead, and retires those that have served
// their time: they take no new request and close when the last one is done.
func (p *pool) prune(now time.Time) {
	keep := p.conns[:0]
	for _, pc := range p.conns {
		switch {
		case pc.cc.Err() != nil:
			_ = pc.conn.Close()
		case p.retired(pc, now):
			p.retire(pc)
		default:
			keep = append(keep, pc)
		}
	}
	clear(p.conns[len(keep):])
	p.conns = keep
}

func (p *pool) retired(pc *pooled, now time.Time) bool {
	o := p.options
	return p.drained ||
		o.MaxPerConnect > 0 && pc.used >= o.MaxPerConnect ||
		o.MaxDuration > 0 && now.Sub(pc.born) >= o.MaxDuration
}

// retire closes the connection as soon as nothing is in flight on it.
func (p *pool) retire(pc *pooled) {
	done := func(cc *http.ClientConn) {
		if cc.InFlight() == 0 {
			go func() { _ = cc.Close() }()
		}
	}
	pc.cc.SetStateHook(done)
	done(pc.cc)
}

// open dials a connection of the caller's own.
func (p *pool) open(ctx context.Context) (*pooled, bool, error) {
	pc, err := p.dial(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing--
	if err != nil {
		shared := err
		if ctx.Err() != nil { // only this caller has gone
			shared = nil
		}
		p.signal(shared)
		return nil, false, err
	}
	defer p.signal(nil)
	if err := pc.cc.Reserve(); err != nil {
		_ = pc.cc.Close()
		return nil, false, &ConnectError{Addr: p.host.Addr, Err: err}
	}
	pc.used = 1
	p.conns = append(p.conns, pc)
	pc.cc.SetStateHook(func(*http.ClientConn) { p.freed(pc) })
	return pc, false, nil
}

func (p *pool) dial(ctx context.Context) (*pooled, error) {
	conn, err := p.host.Dial(ctx)
	if err != nil {
		return nil, err
	}
	cc, err := p.transport().NewClientConn(context.WithValue(ctx, connKey{}, conn), "http", p.host.Addr.String())
	if err != nil {
		_ = conn.Close()
		return nil, &ConnectError{Addr: p.host.Addr, Err: fmt.Errorf("begin http: %w", err)}
	}
	return &pooled{cc: cc, conn: conn, born: time.Now()}, nil
}

// freed is called when a connection has room again or is dead. It runs under
// no lock of the pool's callers, but maybe inside RoundTrip or Close of a body.
func (p *pool) freed(pc *pooled) {
	dead := pc.cc.Err() != nil
	if dead {
		_ = pc.conn.Close()
	}
	go func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if pc.cc.InFlight() == 0 {
			pc.since = time.Now()
		}
		p.signal(nil)
		p.prune(time.Now())
	}()
}

// signal wakes those who wait. The caller holds mu.
func (p *pool) signal(err error) {
	p.turn.err = err
	close(p.turn.over)
	p.turn = newTurn()
}

func (p *pool) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drained = true
	p.prune(time.Now())
}

// sweep closes connections that were idle for too long, and retires old ones.
func (p *pool) sweep(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prune(now)
	if p.options.IdleTimeout <= 0 {
		return
	}
	keep := p.conns[:0]
	for _, pc := range p.conns {
		if !pc.since.IsZero() && pc.cc.InFlight() == 0 && now.Sub(pc.since) >= p.options.IdleTimeout {
			p.retire(pc)
			continue
		}
		keep = append(keep, pc)
	}
	clear(p.conns[len(keep):])
	p.conns = keep
}
