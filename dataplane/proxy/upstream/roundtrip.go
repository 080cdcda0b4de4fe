package upstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
)

// Exchange is a request under way at a host.
type Exchange struct {
	Response *http.Response
	Host     *Host
	Conn     *Conn
}

// RoundTrip sends req to the host, in HTTP/2 if h2 is asked and the xds cluster
// lets the caller choose, or if it demands it. The error is a *ConnectError, a
// *ResetError or wraps ErrOverflow. The caller closes the response's body.
func (h *Host) RoundTrip(req *http.Request, h2 bool) (*Exchange, error) {
	p := &h.pools[protoH1]
	if h.Cluster.speaks(h2) {
		p = &h.pools[protoH2]
	}
	pc, reused, err := h.acquire(req.Context(), p)
	if err != nil {
		return nil, err
	}
	upgrade := req.Header.Get("Upgrade") != ""
	if upgrade { // it may become the caller's, so the pool must not touch it
		p.take(pc)
	}
	before := pc.conn.written.Load()
	resp, err := pc.cc.RoundTrip(req)
	if err != nil {
		if upgrade {
			_ = pc.conn.Close()
		}
		return nil, h.reset(req.Context(), p, pc, before, reused, err)
	}
	h.Succeeded()
	switch {
	case upgrade && resp.StatusCode == http.StatusSwitchingProtocols:
		resp.Body = &upgraded{resp.Body, pc.conn}
	case upgrade:
		p.retire(pc)
	}
	return &Exchange{Response: resp, Host: h, Conn: pc.conn}, nil
}

func (h *Host) acquire(ctx context.Context, p *pool) (*pooled, bool, error) {
	c := h.Cluster
	if c.pending.Add(1) > int64(c.cfg.Limits.Pending) {
		c.pending.Add(-1)
		return nil, false, fmt.Errorf("pending requests of %s: %w", c.cfg.Name, ErrOverflow)
	}
	defer c.pending.Add(-1)
	return p.acquire(ctx)
}

func (h *Host) reset(ctx context.Context, p *pool, pc *pooled, before int64, reused bool, err error) error {
	refused := p.proto == protoH2 && isRefused(err)
	r := &ResetError{Addr: h.Addr, Refused: refused, Reused: reused, Err: err}
	r.Unsent = p.proto == protoH1 && pc.conn.written.Load() == before
	if ctx.Err() == nil && !refused && !reused {
		h.Failed(time.Now())
	}
	return r
}

// isRefused tells from an HTTP/2 error that the server did not act on the
// request. The package net/http has no exported type for it.
func isRefused(err error) bool {
	text := err.Error()
	for _, sign := range []string{
		"REFUSED_STREAM", "graceful shutdown GOAWAY", "client conn not usable", "client conn could not be established", "LastStreamID=0,",
	} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// speaks returns whether the host is called in HTTP/2.
func (c *Cluster) speaks(h2 bool) bool {
	switch {
	case c.cfg.HTTP == nil || c.cfg.HTTP.Version == config.HTTP1:
		return false
	case c.cfg.HTTP.Version == config.HTTP2:
		return true
	default:
		return h2
	}
}

// ForcesH2 reports whether the cluster speaks nothing but HTTP/2, so that an
// HTTP/1.1 upgrade cannot pass.
func (c *Cluster) ForcesH2() bool { return c.cfg.HTTP != nil && c.cfg.HTTP.Version == config.HTTP2 }

// upgraded is the stream after a change of protocol; closing it ends the
// connection.
type upgraded struct {
	io.ReadCloser
	conn *Conn
}

func (u *upgraded) Write(p []byte) (int, error) { return u.ReadCloser.(io.Writer).Write(p) }

func (u *upgraded) Close() error {
	_ = u.ReadCloser.Close()
	return u.conn.Close()
}

// take removes a connection from the pool.
func (p *pool) take(pc *pooled) {
	pc.cc.SetStateHook(nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.conns {
		if other == pc {
			p.conns = append(p.conns[:i:i], p.conns[i+1:]...)
			return
		}
	}
}

// BeginRequest counts a request against the circuit breaker; the returned
// function ends it. The error wraps ErrOverflow.
func (c *Cluster) BeginRequest() (func(), error) {
	if c.requests.Add(1) > int64(c.cfg.Limits.Requests) {
		c.requests.Add(-1)
		return nil, fmt.Errorf("requests of %s: %w", c.cfg.Name, ErrOverflow)
	}
	return sync.OnceFunc(func() { c.requests.Add(-1) }), nil
}

// BeginRetry is BeginRequest for retries.
func (c *Cluster) BeginRetry() (func(), error) {
	if c.retries.Add(1) > int64(c.cfg.Limits.Retries) {
		c.retries.Add(-1)
		return nil, fmt.Errorf("retries of %s: %w", c.cfg.Name, ErrOverflow)
	}
	return sync.OnceFunc(func() { c.retries.Add(-1) }), nil
}
