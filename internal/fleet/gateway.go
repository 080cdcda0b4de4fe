package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/trust"
)

// Gateway answers the probes of one cluster's east-west gateway, and passes on
// nothing.
type Gateway struct {
	listener net.Listener
	done     chan struct{}
}

// NewGateway answers as source, which should be that cluster's gateway, on a port
// of host, which must not be loopback: nobody takes that for a gateway's.
func NewGateway(host string, source trust.Source) (*Gateway, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, fmt.Errorf("fleet: gateway: %w", err)
	}
	g := &Gateway{listener: listener, done: make(chan struct{})}
	config := trust.ServerTLS(source, []string{api.ALPN}, false, nil)
	go func() {
		defer close(g.done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go shake(conn, config)
		}
	}()
	return g, nil
}

func shake(conn net.Conn, config *tls.Config) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = tls.Server(conn, config).HandshakeContext(ctx)
}

// Address is where it listens, "host:port".
func (g *Gateway) Address() string { return g.listener.Addr().String() }

// Close stops listening.
func (g *Gateway) Close() {
	_ = g.listener.Close()
	<-g.done
}

// HostAddress is an address of this machine that is not loopback.
func HostAddress() (string, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
			return n.IP.String(), nil
		}
	}
	return "", errors.New("fleet: this machine has no address but loopback")
}
