package upstream

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
)

// marked is a cluster as the control plane makes it, with one host at addr.
func marked(dialer *Dialer, addr netip.AddrPort) *Host {
	cc := &config.Cluster{
		Name: "c", ConnectTimeout: 10 * time.Second, Limits: config.Limits{Connections: 10, Pending: 10},
		SocketOptions: []config.SocketOption{{Level: unix.SOL_SOCKET, Name: unix.SO_MARK, Value: 1337}, {Level: unix.IPPROTO_TCP, Name: unix.TCP_USER_TIMEOUT, Value: 5000}},
		Keepalive:     &config.Keepalive{Idle: 10 * time.Second, Interval: 3 * time.Second, Probes: 3},
	}
	return newHost(newCluster(cc, dialer), &config.Host{Addr: addr, Weight: 1})
}

func listen(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// The kernel has what cuts a dead connection, and the mark where it may be set.
func TestSocketOptions(t *testing.T) {
	conn, err := marked(&Dialer{NoMark: true}, listen(t)).Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.TCP.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []struct{ level, name, want int }{
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 5000}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 10}, {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 3}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3},
		{unix.SOL_SOCKET, unix.SO_MARK, 0},
	} {
		_ = raw.Control(func(fd uintptr) {
			if got, err := unix.GetsockoptInt(int(fd), o.level, o.name); err != nil || got != o.want {
				t.Errorf("option %d of level %d: %d %v, want %d", o.name, o.level, got, err, o.want)
			}
		})
	}
}

// Without the right to mark its sockets a proxy calls nobody, and says what it lacks.
func TestNoRightToMark(t *testing.T) {
	host := marked(&Dialer{}, listen(t))
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()       // never unlocked: the thread ends, and with it what it lacks
		var none [2]unix.CapUserData // version 3 has two words
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
			done <- err
			return
		}
		conn, err := host.Dial(t.Context())
		if err == nil {
			_ = conn.Close()
		}
		done <- err
	}()
	err := <-done
	if _, ok := errors.AsType[*ConnectError](err); !ok || !errors.Is(err, unix.EPERM) ||
		!strings.Contains(err.Error(), "SO_MARK needs CAP_NET_ADMIN or CAP_NET_RAW") {
		t.Errorf("error %v", err)
	}
}

// held is a connection whose writes arrive and do not return.
type held struct {
	net.Conn
	arrived, release chan struct{}
}

func (h *held) Write(p []byte) (int, error) {
	close(h.arrived)
	<-h.release
	return 0, io.ErrClosedPipe
}

// What is being written may have been sent; only what was not is unsent.
func TestWrittenWhileUnderWay(t *testing.T) {
	h := &held{arrived: make(chan struct{}), release: make(chan struct{})}
	c := &Conn{Conn: h}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = c.Write([]byte("POST"))
	}()
	<-h.arrived
	if c.written.Load() == 0 {
		t.Error("taken for unsent")
	}
	close(h.release)
	<-done
	if n := c.written.Load(); n != 0 {
		t.Errorf("%d bytes that were not sent", n)
	}
}
