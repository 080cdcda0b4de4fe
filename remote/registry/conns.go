package registry

import (
	"context"
	"errors"
	"net"
	"sync"
)

// conns are the open connections of a client, so that they can be ended when its
// last user has gone: an HTTP/2 connection whose last stream is just ending does not
// count as idle yet, and would stay for its idle timeout.
type conns struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	gate *gate // nil: no drill reaches this client

	mu    sync.Mutex
	open  map[*tracked]struct{}
	ended bool // by closeAll
}

type tracked struct {
	net.Conn
	of *conns
}

func (c *conns) dialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if c.gate != nil {
		if err := c.gate.pass(ctx); err != nil {
			return nil, err
		}
	}
	conn, err := c.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	t := &tracked{conn, c}
	if !c.add(t) {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	if c.gate != nil {
		c.gate.enter(t)
	}
	return t, nil
}

// add remembers a connection; false means that it came too late.
func (c *conns) add(t *tracked) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	if c.open == nil {
		c.open = map[*tracked]struct{}{}
	}
	c.open[t] = struct{}{}
	return true
}

// Close ends the connection and forgets it.
func (t *tracked) Close() error {
	t.of.mu.Lock()
	delete(t.of.open, t)
	t.of.mu.Unlock()
	if t.of.gate != nil {
		t.of.gate.leave(t)
	}
	return t.Conn.Close()
}

// closeAll ends every connection, those that are still being dialled too.
func (c *conns) closeAll() {
	c.mu.Lock()
	open := c.open
	c.open, c.ended = nil, true
	c.mu.Unlock()
	for t := range open {
		_ = t.Close()
	}
}
