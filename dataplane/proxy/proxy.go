// Package proxy is the built-in data plane: it takes connections by its
// listeners and passes them on to xds clusters, in TCP and HTTP, with mTLS on
// either side. Its configuration comes as xDS resources.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
	"github.com/isthmus-mesh/isthmus/dataplane/proxy/upstream"
	"github.com/isthmus-mesh/isthmus/dataplane/telemetry"
	"github.com/isthmus-mesh/isthmus/trust"
)

// Defaults of Options.
const (
	defaultMaxConnections   = 20000
	defaultMaxHandshakes    = 1000
	defaultHandshakeTimeout = 10 * time.Second
	defaultHeaderTimeout    = 30 * time.Second
	defaultDrainTimeout     = 15 * time.Second
)

// Options configures a Proxy.
type Options struct {
	Source  trust.Source // of the SVID and the bundle; nil: no mTLS
	Node    telemetry.Node
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nothing

	// OriginalDst returns where a redirected connection was going; nil asks
	// the kernel. Where nothing was redirected it is the local address.
	OriginalDst func(net.Conn) (netip.AddrPort, error)
	// Listen opens sockets; nil listens at the address of the configuration.
	Listen func(ctx context.Context, network string, addr netip.AddrPort) (net.Listener, error)
	// NoMark leaves SO_MARK out, for tests without the right to set it.
	NoMark bool

	MaxConnections   int           // downstream, in all; 0 means 20,000
	MaxHandshakes    int           // inspections and TLS handshakes in flight; 0 means 1,000. A source may have half
	HandshakeTimeout time.Duration // of a downstream TLS handshake; 0 means 10s
	HeaderTimeout    time.Duration // until the headers of a request are there; 0 means 30s
	DrainTimeout     time.Duration // what connections of a withdrawn filter chain have left; 0 means 15s
}

// Proxy is one data plane.
type Proxy struct {
	opts      Options
	log       *slog.Logger
	telemetry *telemetry.Recorder
	set       *upstream.Set
	limits    *limits
	live      *tracker
	own       ownPorts
	faults    faults

	table atomic.Pointer[table]
	conns sync.WaitGroup // connections and accept loops

	mu       sync.Mutex // serialises Apply, Run's end and leaving; guards the rest
	sockets  map[netip.AddrPort]*socket
	draining bool // callers are asked to leave
	refuses  bool // no new connections
	closed   bool
}

// New checks opts. It opens nothing.
func New(opts Options) (*Proxy, error) {
	if opts.MaxConnections < 0 || opts.MaxHandshakes < 0 || opts.HandshakeTimeout < 0 || opts.HeaderTimeout < 0 || opts.DrainTimeout < 0 {
		return nil, errors.New("proxy: a limit is negative")
	}
	setDefaults(&opts)
	rec, err := telemetry.New(opts.Metrics)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{
		opts: opts, log: opts.Log, telemetry: rec,
		limits: newLimits(opts.MaxConnections, opts.MaxHandshakes), live: newTracker(),
		sockets: map[netip.AddrPort]*socket{},
	}
	p.set = upstream.NewSet(&upstream.Dialer{Source: opts.Source, Forbidden: p.own.contains, NoMark: opts.NoMark})
	p.table.Store(newTable(&config.Config{}))
	return p, nil
}

func setDefaults(o *Options) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.OriginalDst == nil {
		o.OriginalDst = originalDst
	}
	if o.Listen == nil {
		o.Listen = listen
	}
	for _, n := range []struct {
		v   *int
		def int
	}{{&o.MaxConnections, defaultMaxConnections}, {&o.MaxHandshakes, defaultMaxHandshakes}} {
		if *n.v == 0 {
			*n.v = n.def
		}
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&o.HandshakeTimeout, defaultHandshakeTimeout}, {&o.HeaderTimeout, defaultHeaderTimeout}, {&o.DrainTimeout, defaultDrainTimeout}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
}

// Run keeps connection pools tidy until ctx ends; then it closes every listener
// and connection, and returns when all are gone.
func (p *Proxy) Run(ctx context.Context) error {
	p.set.Run(ctx)
	_ = p.Mend("") // it tells of what cannot be mended, and the sockets are closed next
	p.close()
	p.conns.Wait()
	return nil
}

func (p *Proxy) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.closeSockets()
	old := p.table.Swap(newTable(&config.Config{}))
	for _, l := range old.byName {
		for _, c := range l.all() {
			c.kill()
		}
	}
	p.live.finish()
	p.live.closeAll()
	p.set.Apply(&config.Config{})
}

// Refuse closes all listening sockets for good, so that new callers go elsewhere
// at once. What is open goes on.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = true
	p.closeSockets()
}

func (p *Proxy) closeSockets() {
	for addr, s := range p.sockets {
		p.closeSocket(addr, s)
	}
}

func (p *Proxy) closeSocket(addr netip.AddrPort, s *socket) {
	s.close()
	p.own.remove(s.ln.Addr())
	delete(p.sockets, addr)
}

// leave asks all callers to go elsewhere.
func (p *Proxy) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.draining = true
	for _, l := range p.table.Load().byName {
		for _, c := range l.all() {
			c.leave()
		}
	}
}

// Drain ends the proxy's life politely: it goes on taking connections, but asks
// callers to leave (GOAWAY, Connection: close), and returns when no connection
// is left, or at the end of ctx with the number of those that are.
func (p *Proxy) Drain(ctx context.Context) error {
	p.leave()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for p.limits.open() > 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("drain: %d connections left: %w", p.limits.open(), ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}
