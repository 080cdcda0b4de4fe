package proxy_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/dataplane/proxy"
	"github.com/isthmus-mesh/isthmus/fault"
)

// quiet is long enough for what must not come on loopback.
const quiet = 300 * time.Millisecond

func echoes(c *net.TCPConn) { _, _ = io.Copy(c, c) }

// echoing is a proxy whose listener, bound by number, leads to an application that echoes.
func echoing(t *testing.T) *instance {
	t.Helper()
	p := start(t, nil)
	p.dsts.set("127.0.0.3", tcpApp(t, echoes))
	p.listenElsewhere(t)
	return p
}

// listenElsewhere moves the listener to a port that is free. Others on this machine may be faster.
func (in *instance) listenElsewhere(t *testing.T) {
	t.Helper()
	var err error
	for range 10 {
		at := netip.AddrPortFrom(netip.IPv4Unspecified(), dead(t).Port())
		if err = in.Apply(newState(outboundCatchAll(at), passthrough())); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// echoed reports whether an x comes back within patience.
func echoed(c net.Conn, patience time.Duration) error {
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	return heard(c, patience)
}

func heard(c net.Conn, patience time.Duration) error {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// tryDial connects as a peer would that a router is before: it takes no packet that may not be passed on.
func tryDial(p *instance, t *testing.T, patience time.Duration) error {
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.3"), p.bound(t, "outbound").Port())
	d := net.Dialer{Timeout: patience, Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if err := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MINTTL, 2) }); err != nil {
			return err
		}
		return err
	}}
	c, err := d.DialContext(t.Context(), "tcp", at.String())
	if err == nil {
		_ = c.Close()
	}
	return err
}

func whole(t *testing.T, p *instance) {
	t.Helper()
	if err := echoed(dial(t, p, "127.0.0.3"), 10*time.Second); err != nil {
		t.Errorf("a new connection: %v", err)
	}
	if f := p.Faults(); len(f) != 0 {
		t.Errorf("broken: %v", f)
	}
}

// What is sent to a listener that drops gets no answer, neither a new connection nor one that is open,
// which goes on afterwards where it was.
func TestListenerDrops(t *testing.T) {
	p := echoing(t)
	open := dial(t, p, "127.0.0.3")
	must(t, echoed(open, 10*time.Second))

	must(t, p.Break("outbound", fault.Drop, time.Minute))
	if err := echoed(open, quiet); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an open connection: %v", err)
	}
	if err, late := errors.AsType[net.Error](tryDial(p, t, quiet)); !late || !err.Timeout() {
		t.Errorf("a new connection: %v", err)
	}
	if f := p.Faults(); len(f) != 1 || f[0].Mode != "drop" || p.Listeners()[0].Fault != "drop" {
		t.Errorf("it says %v, %v", f, p.Listeners())
	}
	if len(p.Bound("outbound")) == 0 {
		t.Error("the listener does not count as open")
	}

	must(t, p.Mend("outbound"))
	must(t, p.Mend("outbound")) // twice
	if err := heard(open, 10*time.Second); err != nil {
		t.Errorf("the connection that was open: %v", err)
	}
	must(t, echoed(open, 10*time.Second))
	whole(t, p)
}

// A listener that refuses resets what is open, and takes connections at the same address again.
func TestListenerRefuses(t *testing.T) {
	p := echoing(t)
	open := dial(t, p, "127.0.0.3")
	must(t, echoed(open, 10*time.Second))
	before := p.bound(t, "outbound")

	must(t, p.Break("outbound", fault.Refuse, time.Minute))
	if err := heard(open, 10*time.Second); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an open connection: %v", err)
	}
	if err := tryDial(p, t, 10*time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection: %v", err)
	}
	must(t, p.Break("outbound", fault.Drop, time.Minute))
	if err, late := errors.AsType[net.Error](tryDial(p, t, quiet)); !late || !err.Timeout() {
		t.Errorf("a new connection, now that it drops: %v", err)
	}
	must(t, p.Mend("outbound"))
	whole(t, p)
	if now := p.bound(t, "outbound"); now != before {
		t.Errorf("bound at %s, before at %s", now, before)
	}
}

// Nobody has to come back to mend: a fault that is not renewed ends by itself.
func TestFaultEnds(t *testing.T) {
	p := echoing(t)
	for _, mode := range []fault.Mode{fault.Drop, fault.Refuse} {
		must(t, p.Break("", mode, fault.Shortest)) // all that are open
		eventually(t, mode.String()+" ends", func() bool { return len(p.Faults()) == 0 })
		whole(t, p)
	}
}

// A socket that is opened while its listener is broken is so from the start.
func TestOpenedWhileBroken(t *testing.T) {
	p := echoing(t)
	must(t, p.Break("outbound", fault.Drop, time.Minute))
	before := p.bound(t, "outbound")
	p.listenElsewhere(t)
	if now := p.bound(t, "outbound"); now == before {
		t.Fatalf("bound at %s as before", now)
	}
	if err, late := errors.AsType[net.Error](tryDial(p, t, quiet)); !late || !err.Timeout() {
		t.Errorf("a new connection: %v", err)
	}
	must(t, p.Mend(""))
	whole(t, p)
}

// A proxy that ends while it is broken ends as any other.
func TestEndWhileBroken(t *testing.T) {
	p := echoing(t)
	must(t, p.Break("outbound", fault.Refuse, time.Minute))
	p.stop()
	eventually(t, "nothing is broken", func() bool { return len(p.Faults()) == 0 })
}

func TestBreakRefused(t *testing.T) {
	p := echoing(t)
	if err := p.Break("inbound", fault.Drop, time.Minute); !errors.Is(err, proxy.ErrNoListener) {
		t.Errorf("a listener that there is not: %v", err)
	}
	if err := p.Break("outbound", fault.Drop, 2*fault.Longest); err == nil {
		t.Error("a fault of two minutes is taken")
	}
	must(t, p.Mend("inbound"))
	whole(t, p)
}
