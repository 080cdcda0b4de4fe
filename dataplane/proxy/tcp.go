package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
	"github.com/isthmus-mesh/isthmus/dataplane/proxy/upstream"
)

// tcpExtraHosts is how many further hosts of the same priority a TCP connection
// tries before it goes to the next priority.
const tcpExtraHosts = 1

// proxyTCP connects d to the chain's xds cluster and copies both ways.
func (c *chain) proxyTCP(d *downstream) {
	ctx := context.Background()
	if life := c.cfg.TCP.MaxDuration; life > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, life)
		defer cancel()
	}
	up, cluster, err := c.proxy.connect(ctx, d, c.xdsCluster(d), c.cfg.TCP.MaxConnects)
	if err != nil {
		c.proxy.refuse(d, tcpReason(err), err)
		return
	}
	defer func() { _ = d.Close() }()
	defer func() { _ = up.Close() }()
	defer up.Host.Begin()()
	call := c.proxy.call(d, cluster, up, "tcp", "-")
	c.proxy.telemetry.Opened(call)
	defer context.AfterFunc(ctx, func() { cut(d, up) })()
	sent, received := relay(d, up, c.cfg.TCP.IdleTimeout)
	c.proxy.telemetry.Closed(call, sent, received)
}

// xdsCluster names where a TCP connection goes.
func (c *chain) xdsCluster(d *downstream) string {
	switch {
	case c.cfg.SNICluster:
		return d.seen.ServerName
	case c.cfg.Cluster != nil:
		return c.cfg.Cluster.Name(d.dst.Port())
	default:
		return c.cfg.TCP.Cluster
	}
}

func tcpReason(err error) string {
	switch {
	case errors.Is(err, upstream.ErrUnknown):
		return "unknown_cluster"
	case errors.Is(err, upstream.ErrNoHealthy):
		return "no_healthy_upstream"
	case errors.Is(err, upstream.ErrLoop):
		return "loop_or_unknown"
	case errors.Is(err, upstream.ErrOverflow):
		return "overflow"
	default:
		return "upstream_connect"
	}
}

// connect finds a host that takes the connection, in at most attempts. No byte
// of the caller's has been passed on, so any failure may be tried elsewhere.
func (p *Proxy) connect(ctx context.Context, d *downstream, name string, attempts int) (*upstream.Conn, *upstream.Cluster, error) {
	cluster, err := p.set.Get(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if cluster.Config().Type == config.ClusterOriginalDst {
		conn, err := cluster.Original(d.dst).Dial(ctx)
		return conn, cluster, err
	}
	var tried upstream.Tried
	for i := 0; ; i++ {
		host, pickErr := cluster.Pick(time.Now(), &tried)
		if pickErr != nil {
			return nil, nil, errors.Join(pickErr, err)
		}
		var conn *upstream.Conn
		if conn, err = host.Dial(ctx); err == nil {
			host.Succeeded()
			return conn, cluster, nil
		}
		p.log.Debug("connect upstream", "xds_cluster", name, "host", host.Addr.String(), "err", err)
		if i+1 >= attempts || errors.Is(err, upstream.ErrOverflow) {
			return nil, nil, err
		}
		if i >= tcpExtraHosts {
			tried.Exclude()
		}
	}
}

// relay copies both ways until both have ended, one has failed, or nothing has
// come for idle (0: no bound). It returns the bytes to and from the caller.
func relay(d *downstream, up *upstream.Conn, idle time.Duration) (sent, received int64) {
	stop := watchIdle(d, up, idle)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		n, err := copyToUpstream(d, up)
		received = n
		endHalf(err, func() error { return closeWrite(up.Conn) }, d, up)
	})
	wg.Go(func() {
		n, err := copyToDownstream(d, up)
		sent = n
		endHalf(err, d.CloseWrite, d, up)
	})
	wg.Wait()
	return sent, received
}

// endHalf passes the end of one direction on; a failure ends both at once, by
// reset, so that nobody takes a part for the whole.
func endHalf(err error, closeWrite func() error, d *downstream, up *upstream.Conn) {
	if err == nil {
		err = closeWrite()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return
		}
	}
	cut(d, up)
}

// cut ends both sides by reset.
func cut(d *downstream, up *upstream.Conn) {
	_ = up.TCP.SetLinger(0)
	_ = up.TCP.Close()
	d.abort()
}

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

func copyToUpstream(d *downstream, up *upstream.Conn) (int64, error) {
	var head int64
	if tcp, ok := d.raw.(*net.TCPConn); ok && d.tls == nil {
		if d.peeked != nil {
			n, err := up.Write(d.peeked.Head())
			head = int64(n)
			if err != nil {
				return head, err
			}
		}
		if up.Conn == net.Conn(up.TCP) {
			n, err := io.Copy(up.TCP, tcp) // the kernel splices
			return head + n, err
		}
		n, err := copyBuffered(up.Conn, tcp)
		return head + n, err
	}
	return copyBuffered(up.Conn, d.Conn)
}

func copyToDownstream(d *downstream, up *upstream.Conn) (int64, error) {
	if tcp, ok := d.raw.(*net.TCPConn); ok && d.tls == nil && up.Conn == net.Conn(up.TCP) {
		return io.Copy(tcp, up.TCP)
	}
	to := d.Conn
	if d.tls == nil {
		to = d.raw
	}
	return copyBuffered(to, up.Conn)
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

func copyBuffered(to io.Writer, from io.Reader) (int64, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	// The wrappers hide short cuts of io.Copy that would allocate.
	return io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, *buf)
}
