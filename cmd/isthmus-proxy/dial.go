package main

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/trust"
)

// userTimeout is how long data may stay unacknowledged before a connection counts as dead.
const userTimeout = 10 * time.Second

// newDialer returns a dialler for the proxy's own connections: marked, so that
// the redirect leaves them alone (where there is a redirect), and quick to
// notice a dead peer.
func newDialer(marked bool) *net.Dialer {
	return &net.Dialer{
		Timeout:         5 * time.Second,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 3 * time.Second, Count: 3},
		Control: func(network, _ string, c syscall.RawConn) error {
			if network != "tcp4" && network != "tcp6" {
				return nil
			}
			return setOptions(c, marked)
		},
	}
}

func setOptions(c syscall.RawConn, marked bool) error {
	var err error
	outer := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
		if err == nil && marked {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, api.MarkInbound)
		}
	})
	return errors.Join(outer, err)
}

// discoveryDial dials isthmusd.
func discoveryDial(marked bool) func(context.Context, string) (net.Conn, error) {
	d := newDialer(marked)
	return func(ctx context.Context, address string) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
}

// dialDiscovery returns the connection for xDS, by the SVID alone. It connects
// when it is first used.
func (p *app) dialDiscovery() (*grpc.ClientConn, error) {
	tls := trust.ClientTLS(p.identity, trust.ClusterDNS(p.cfg.discoveryName), nil, trust.Only(p.cfg.server))
	return grpc.NewClient("passthrough:///"+p.cfg.discovery,
		grpc.WithTransportCredentials(credentials.NewTLS(tls)), grpc.WithNoProxy(), grpc.WithIdleTimeout(0),
		grpc.WithContextDialer(discoveryDial(p.cfg.role == roleSidecar)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}))
}
