package fault

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// soon is long enough for what must not happen on loopback.
const soon = 300 * time.Millisecond

// listener is a TCP listener whose port was bound by number.
func listener(t *testing.T) *net.TCPListener {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	for range 10 {
		free, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
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

func dial(t *testing.T, l net.Listener, patience time.Duration) (net.Conn, error) {
	t.Helper()
	c, err := (&net.Dialer{Timeout: patience}).DialContext(context.Background(), "tcp", l.Addr().String())
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

// A deaf listener answers nothing at all, and a deaf connection gets nothing; both go on afterwards, with
// what was sent meanwhile.
func TestDeafen(t *testing.T) {
	l := listener(t)
	caller, err := dial(t, l, 5*time.Second)
	must(t, err)
	accepted, err := l.Accept()
	must(t, err)
	defer accepted.Close()

	must(t, Deafen(l))
	must(t, Deafen(accepted.(*net.TCPConn)))
	if _, err := dial(t, l, soon); !errors.Is(err, os.ErrDeadlineExceeded) && !isTimeout(err) {
		t.Errorf("dial of a deaf listener: %v", err)
	}
	_, err = caller.Write([]byte("x"))
	must(t, err)
	accepted.SetReadDeadline(time.Now().Add(soon))
	if n, err := accepted.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a deaf connection read %d bytes, %v", n, err)
	}

	must(t, Hear(l))
	must(t, Hear(accepted.(*net.TCPConn)))
	must(t, Hear(accepted.(*net.TCPConn))) // twice
	accepted.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := accepted.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("afterwards it read %d bytes, %v", n, err)
	}
	_, err = dial(t, l, 5*time.Second)
	must(t, err)
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// A listener that is shut refuses, and takes connections at the same address again.
func TestShut(t *testing.T) {
	l := listener(t)
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
