package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
	"github.com/isthmus-mesh/isthmus/trust"
)

const soMark = 36 // SO_MARK of SOL_SOCKET on Linux

// Dialer makes connections to hosts.
type Dialer struct {
	Source trust.Source // of our SVID and bundle
	// Forbidden reports addresses that are our own listeners; calling one
	// would be a loop. nil forbids none.
	Forbidden func(netip.AddrPort) bool
	// NoMark leaves SO_MARK out, for tests without the right to set it.
	NoMark bool
}

// Conn is a connection to a Host. TCP is its socket; reads and writes go
// through TLS where there is any.
type Conn struct {
	net.Conn
	TCP  *net.TCPConn
	Peer *trust.Peer // nil where plaintext
	Host *Host

	written atomic.Int64
	once    sync.Once
}

// Write counts, so that a caller can tell whether anything was sent at all. What
// is being written may have been.
func (c *Conn) Write(p []byte) (int, error) {
	c.written.Add(int64(len(p)))
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n - len(p)))
	return n, err
}

// Close closes the connection. It may be called more than once.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.Host.conns.Add(-1)
		c.Host.Cluster.conns.Add(-1)
	})
	return err
}

// Dial connects to the host within the xds cluster's connect timeout, TLS
// included, and tells the outlier detection how it went. The error is a
// *ConnectError or wraps ErrOverflow.
func (h *Host) Dial(ctx context.Context) (*Conn, error) {
	c := h.Cluster
	if c.conns.Add(1) > int64(c.cfg.Limits.Connections) {
		c.conns.Add(-1)
		return nil, fmt.Errorf("connections of %s: %w", c.cfg.Name, ErrOverflow)
	}
	dialCtx, cancel := context.WithTimeout(ctx, c.cfg.ConnectTimeout)
	defer cancel()
	conn, err := c.dialer.dial(dialCtx, h)
	if err != nil {
		c.conns.Add(-1)
		if ctx.Err() == nil && !errors.Is(err, ErrLoop) {
			h.Failed(time.Now())
		}
		return nil, err
	}
	h.conns.Add(1)
	return conn, nil
}

func (d *Dialer) dial(ctx context.Context, h *Host) (*Conn, error) {
	if d.Forbidden != nil && d.Forbidden(h.Addr) {
		return nil, &ConnectError{Addr: h.Addr, Err: ErrLoop}
	}
	nd := net.Dialer{ControlContext: d.control(h.Cluster.cfg.SocketOptions), KeepAlive: -1}
	if k := h.Cluster.cfg.Keepalive; k != nil {
		nd.KeepAlive = 0
		nd.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: k.Idle, Interval: k.Interval, Count: k.Probes}
	}
	raw, err := nd.DialContext(ctx, "tcp", h.Addr.String())
	if err != nil {
		return nil, &ConnectError{Addr: h.Addr, Err: err}
	}
	tcp := raw.(*net.TCPConn)
	conn := &Conn{Conn: tcp, TCP: tcp, Host: h}
	if h.tls == nil {
		return conn, nil
	}
	if err := d.handshake(ctx, conn, h.tls); err != nil {
		_ = tcp.Close()
		return nil, &ConnectError{Addr: h.Addr, Transport: true, Err: err}
	}
	return conn, nil
}

func (d *Dialer) handshake(ctx context.Context, conn *Conn, t *config.UpstreamTLS) error {
	if d.Source == nil {
		return trust.ErrNoSVID
	}
	var got trust.Peer
	authorize := func(p trust.Peer) error {
		if !slices.Contains(t.Peers, p.ID) {
			return fmt.Errorf("not an identity expected of this service")
		}
		got = p
		return nil
	}
	tc := tls.Client(conn.TCP, trust.ClientTLS(d.Source, t.ServerName, t.ALPN, authorize))
	if err := tc.HandshakeContext(ctx); err != nil {
		return err
	}
	conn.Conn, conn.Peer = tc, &got
	return nil
}

// control sets the socket options before connecting. Without the right to set
// SO_MARK the connection fails: unmarked, it would be redirected to ourselves.
func (d *Dialer) control(options []config.SocketOption) func(context.Context, string, string, syscall.RawConn) error {
	if len(options) == 0 {
		return nil
	}
	return func(_ context.Context, _, _ string, raw syscall.RawConn) error {
		var inner error
		err := raw.Control(func(fd uintptr) {
			for _, o := range options {
				if o.Level == syscall.SOL_SOCKET && o.Name == soMark && d.NoMark {
					continue
				}
				if err := syscall.SetsockoptInt(int(fd), o.Level, o.Name, o.Value); err != nil {
					inner = fmt.Errorf("set socket option level %d name %d to %d (SO_MARK needs CAP_NET_ADMIN or CAP_NET_RAW): %w", o.Level, o.Name, o.Value, err)
					return
				}
			}
		})
		return errors.Join(err, inner)
	}
}
