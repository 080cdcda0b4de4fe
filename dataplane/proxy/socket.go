package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/fault"
)

// socket is a bound address and the listener that serves it at the moment.
type socket struct {
	proxy    *Proxy
	ln       net.Listener
	listener atomic.Pointer[string]
	shut     bool // by a drill; guarded by Proxy.mu
}

func newSocket(p *Proxy, ln net.Listener, name string) *socket {
	s := &socket{proxy: p, ln: ln}
	s.listener.Store(&name)
	return s
}

func (s *socket) close() { _ = s.ln.Close() }

// shutPause is how often a socket that a drill has shut is looked at.
const shutPause = 20 * time.Millisecond

// accept takes connections until the socket is closed. What cannot be taken
// (no more file descriptors, for one) is waited out, as is a drill that has shut the socket.
func (s *socket) accept() {
	pause := 5 * time.Millisecond
	for {
		conn, err := s.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil && s.proxy.faults.mode(*s.listener.Load()) == fault.Refuse {
			time.Sleep(shutPause)
			continue
		}
		if err != nil {
			s.proxy.log.Warn("accept connection", "listener", *s.listener.Load(), "err", err)
			time.Sleep(pause)
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		s.proxy.take(conn, *s.listener.Load())
	}
}

// listen does without MPTCP, which nobody in the mesh speaks and whose sockets lack options that drills need.
func listen(ctx context.Context, network string, addr netip.AddrPort) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	return lc.Listen(ctx, network, addr.String())
}

// noFamily tells that this machine has no such address family.
func noFamily(err error) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)
}
