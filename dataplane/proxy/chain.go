package proxy

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
)

// Limits of the HTTP server.
const (
	maxHeaderBytes = 64 << 10
	httpIdle       = time.Hour // as Envoy
	maxStreams     = 250
)

// chain serves the connections of one filter chain. It lives as long as the
// chain's configuration stays the same.
type chain struct {
	proxy    *Proxy
	listener string
	cfg      *config.Chain
	conns    *tracker

	mu     sync.Mutex
	server *http.Server // nil unless the chain is HTTP's
	queue  *connQueue
}

func newChain(p *Proxy, l *config.Listener, cfg *config.Chain) *chain {
	c := &chain{proxy: p, listener: l.Name, cfg: cfg, conns: newTracker()}
	if cfg.HTTP != nil {
		c.startServer(!p.draining.Load())
	}
	return c
}

// startServer serves new connections by a new server.
func (c *chain) startServer(keepAlives bool) {
	p := c.proxy
	server := &http.Server{
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
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	server.SetKeepAlivesEnabled(keepAlives)
	queue := newConnQueue()
	c.server, c.queue = server, queue
	p.conns.Add(1)
	go func() {
		defer p.conns.Done()
		_ = server.Serve(queue)
	}()
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
		c.mu.Lock()
		queue := c.queue
		c.mu.Unlock()
		if !queue.push(d) {
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

// leave asks callers to go elsewhere, and still serves those that come.
func (c *chain) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil {
		return
	}
	old := c.server
	c.startServer(false)
	c.proxy.conns.Add(1)
	go func() {
		defer c.proxy.conns.Done()
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		_ = old.Shutdown(ctx) // ends early when the proxy closes all connections
	}()
}

// drain takes no new connection, lets those that are there finish within
// timeout, and closes the rest. It does not wait.
func (c *chain) drain(timeout time.Duration) {
	empty := c.conns.finish()
	c.proxy.conns.Add(1)
	go func() {
		defer c.proxy.conns.Done()
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if server := c.current(); server != nil {
			go func() { _ = server.Shutdown(ctx) }()
		}
		select {
		case <-empty:
		case <-ctx.Done():
		}
		c.close()
	}()
}

// kill closes everything at once.
func (c *chain) kill() {
	c.conns.finish()
	c.close()
}

func (c *chain) close() {
	if server := c.current(); server != nil {
		_ = server.Close()
	}
	c.conns.closeAll()
}

func (c *chain) current() *http.Server {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server
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
