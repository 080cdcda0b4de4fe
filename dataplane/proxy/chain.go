package proxy

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
)

// Limits of the HTTP server.
const (
	maxHeaderBytes = 64 << 10
	httpIdle       = time.Hour // as Envoy
	maxStreams     = 250
)

// leaveIdle is how long connections without a request stay when a chain leaves:
// those in use are told with their next response.
const leaveIdle = 500 * time.Millisecond

// chain serves the connections of one filter chain. It lives as long as the
// chain's configuration stays the same.
type chain struct {
	proxy    *Proxy
	listener string
	cfg      *config.Chain
	place    atomic.Pointer[place] // of who may be connected; of cfg only the source ranges change
	conns    *tracker
	server   *http.Server // nil unless the chain is HTTP's
	queue    *connQueue   // of server
	leaving  atomic.Bool
	closed   chan struct{}
	once     sync.Once
}

func newChain(p *Proxy, l *config.Listener, cfg *config.Chain) *chain {
	c := &chain{proxy: p, listener: l.Name, cfg: cfg, conns: newTracker(), closed: make(chan struct{})}
	c.place.Store(&place{l, cfg})
	if cfg.HTTP != nil {
		c.startServer()
	}
	if p.draining {
		c.leave()
	}
	return c
}

func (c *chain) startServer() {
	p := c.proxy
	c.queue = newConnQueue()
	c.server = &http.Server{
		Handler:                      &handler{chain: c, http: c.cfg.HTTP},
		ReadHeaderTimeout:            p.opts.HeaderTimeout,
		IdleTimeout:                  httpIdle,
		MaxHeaderBytes:               maxHeaderBytes,
		Protocols:                    new(http.Protocols),
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerStream: 1 << 20},
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, downstreamKey{}, conn)
		},
	}
	c.server.Protocols.SetHTTP1(true)
	c.server.Protocols.SetUnencryptedHTTP2(true)
	p.conns.Go(func() { _ = c.server.Serve(c.queue) })
}

type downstreamKey struct{}

// track counts d among the chain's connections until it is closed; false where
// the chain takes none any more.
func (c *chain) track(d *downstream) bool {
	if !c.conns.add(d) {
		return false
	}
	d.atClose(func() { c.conns.remove(d) })
	return true
}

func (c *chain) serve(d *downstream) {
	switch {
	case c.cfg.HTTP != nil:
		d.asks(0)
		if !c.queue.push(d) {
			_ = d.Close()
		}
	case c.cfg.Direct != nil:
		defer func() { _ = d.Close() }()
		_ = d.SetDeadline(time.Now().Add(c.proxy.opts.HandshakeTimeout))
		if _, err := d.Write(c.cfg.Direct.Body); err == nil {
			_ = d.CloseWrite()
		}
	default:
		c.proxyTCP(d)
	}
}

// leave asks callers to go elsewhere, and still serves those that come: each
// response says so, and who asks nothing for a while is left. It does not wait.
// (http.Server.Shutdown would drop requests that it has just read.)
func (c *chain) leave() {
	if c.server == nil || c.leaving.Swap(true) {
		return
	}
	c.proxy.conns.Go(func() {
		tick := time.NewTicker(leaveIdle / 5)
		defer tick.Stop()
		for {
			select {
			case <-c.closed:
				return
			case now := <-tick.C:
				c.conns.closeIdle(now.Add(-leaveIdle))
			}
		}
	})
}

// drain takes no new connection, lets those that are there (in their handshake,
// too) finish within timeout, and closes the rest. It does not wait.
func (c *chain) drain(timeout time.Duration) {
	empty := c.conns.finish()
	c.leave()
	c.proxy.conns.Go(func() {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		select {
		case <-empty:
		case <-timer.C:
		}
		c.close()
	})
}

// kill closes everything at once.
func (c *chain) kill() {
	c.conns.finish()
	c.close()
}

// close closes the sockets first: to say farewell in TLS takes 5 s where the
// peer does not read.
func (c *chain) close() {
	c.once.Do(func() { close(c.closed) })
	c.conns.closeAll()
	if c.server != nil {
		_ = c.server.Close()
	}
}

// connQueue hands connections to an http.Server as if it had accepted them.
type connQueue struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newConnQueue() *connQueue {
	return &connQueue{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (q *connQueue) push(c net.Conn) bool {
	select {
	case q.conns <- c:
		return true
	case <-q.closed:
		return false
	}
}

func (q *connQueue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}

func (q *connQueue) Close() error {
	q.once.Do(func() { close(q.closed) })
	return nil
}

func (q *connQueue) Addr() net.Addr { return &net.TCPAddr{} }
