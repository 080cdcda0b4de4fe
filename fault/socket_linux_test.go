package fault

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// soon is long enough for what must not happen on loopback.
const soon = 300 * time.Millisecond

// listener is a TCP listener whose port was bound by number.
func listener(t *testing.T, host string) *net.TCPListener {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	for range 10 {
		free, err := lc.Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		address := free.Addr().String()
		free.Close()
		if l, err := lc.Listen(t.Context(), "tcp", address); err == nil {
			t.Cleanup(func() { l.Close() })
			return l.(*net.TCPListener)
		}
	}
	t.Fatal("no port is free twice")
	return nil
}

// dial connects as a peer would that a router is before: it takes no packet that may not be passed on.
func dial(t *testing.T, l net.Listener, patience time.Duration) (net.Conn, error) {
	t.Helper()
	d := net.Dialer{Timeout: patience, Control: func(network, _ string, raw syscall.RawConn) error {
		var err error
		beyond := func(fd uintptr) {
			if network == "tcp6" {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MINHOPCOUNT, 2)
			} else {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MINTTL, 2)
			}
		}
		if err := raw.Control(beyond); err != nil {
			return err
		}
		return err
	}}
	c, err := d.DialContext(context.Background(), "tcp", l.Addr().String())
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A deaf listener answers nothing at all, and a deaf connection neither hears nor is heard; both go on
// afterwards, with what was sent meanwhile.
func TestDeafen(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) { deafens(t, listener(t, host)) })
	}
}

func deafens(t *testing.T, l *net.TCPListener) {
	caller, err := dial(t, l, 5*time.Second)
	must(t, err)
	accepted, err := l.Accept()
	must(t, err)
	defer accepted.Close()

	reading := make(chan error, 1) // somebody waits for bytes all the time
	go func() {
		_, err := io.ReadFull(accepted, make([]byte, 1))
		reading <- err
	}()
	must(t, Deafen(l))
	must(t, Deafen(accepted.(*net.TCPConn)))
	if _, err := dial(t, l, soon); !isTimeout(err) {
		t.Errorf("dial of a deaf listener: %v", err)
	}
	for _, c := range []net.Conn{caller, accepted} {
		_, err = c.Write([]byte("x"))
		must(t, err)
	}
	caller.SetReadDeadline(time.Now().Add(soon))
	if n, err := caller.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a deaf connection is heard: %d bytes, %v", n, err)
	}
	select {
	case err := <-reading:
		t.Errorf("a deaf connection hears: %v", err)
	default:
	}

	must(t, Hear(l))
	must(t, Hear(accepted.(*net.TCPConn)))
	must(t, Hear(accepted.(*net.TCPConn))) // twice
	caller.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := caller.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("afterwards the caller hears %d bytes, %v", n, err)
	}
	must(t, <-reading)
	_, err = dial(t, l, 20*time.Second)
	must(t, err)
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// A listener that is shut refuses, and takes connections at the same address again.
func TestShut(t *testing.T) {
	l := listener(t, "127.0.0.1")
	must(t, Shut(l))
	if _, err := dial(t, l, 5*time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial of a listener that is shut: %v", err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("a listener that is shut accepts")
	}
	must(t, Reopen(l))
	_, err := dial(t, l, 5*time.Second)
	must(t, err)
	accepted, err := l.Accept()
	must(t, err)
	accepted.Close()
}
