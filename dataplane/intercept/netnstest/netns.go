// Package netnstest makes network namespaces for tests, with real devices and
// real sockets in them. Only tests import it.
package netnstest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// timeout bounds every connection that a namespace makes.
const timeout = 10 * time.Second

// A Namespace is a fresh network namespace. It ends with the test.
type Namespace struct {
	t    testing.TB
	file *os.File
}

// New makes a namespace with its loopback up. Where the machine does not allow
// that, the test is skipped, loudly.
func New(t testing.TB) *Namespace {
	t.Helper()
	n := &Namespace{t: t}
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if n.file, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		return up("lo")
	})
	if err != nil {
		t.Skipf("SKIPPED, this is not tested: a network namespace cannot be made: %v", err)
	}
	t.Cleanup(func() { n.file.Close() })
	return n
}

// onThread runs f on a thread that ends with it, whatever f did to it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}

func up(device string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// Do runs f inside the namespace. Sockets that f makes stay there.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// Must is Do that ends the test on an error.
func (n *Namespace) Must(f func() error) {
	n.t.Helper()
	if err := n.Do(f); err != nil {
		n.t.Fatal(err)
	}
}

// Connect joins two namespaces by a pair of devices, one named nameA in a and
// the other nameB in b, with the given addresses (such as "10.0.0.1/24").
func Connect(a, b *Namespace, nameA, nameB string, addrA, addrB []string) {
	a.t.Helper()
	a.Must(func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsFd(b.file.Fd()),
		})
	})
	a.Must(func() error { return address(nameA, addrA) })
	b.Must(func() error { return address(nameB, addrB) })
}

func address(device string, addrs []string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	for _, s := range addrs {
		a, err := netlink.ParseAddr(s)
		if err != nil {
			return err
		}
		a.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("add %s to %s: %w", s, device, err)
		}
	}
	return netlink.LinkSetUp(link)
}

// Address gives a device one more address (such as "10.0.0.9/24").
func (n *Namespace) Address(device, addr string) {
	n.t.Helper()
	n.Must(func() error { return address(device, []string{addr}) })
}

// Gateway makes each of addrs the default route of its family.
func (n *Namespace) Gateway(addrs ...string) {
	n.t.Helper()
	n.Must(func() error {
		for _, gw := range addrs {
			if err := netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gw)}); err != nil {
				return fmt.Errorf("route by %s: %w", gw, err)
			}
		}
		return nil
	})
}

// GatewayOnLink makes addr, which is in no subnet of the namespace, the default
// route by device.
func (n *Namespace) GatewayOnLink(device, addr string) {
	n.t.Helper()
	n.Must(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(addr), Flags: int(netlink.FLAG_ONLINK)})
	})
}

// Forward makes the namespace a router.
func (n *Namespace) Forward() {
	n.t.Helper()
	n.Must(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
}

// Listen opens a listener that ends with the test.
func (n *Namespace) Listen(network, addr string) net.Listener {
	n.t.Helper()
	var l net.Listener
	n.Must(func() (err error) {
		l, err = net.Listen(network, addr)
		return err
	})
	n.t.Cleanup(func() { l.Close() })
	return l
}

// Dial connects to a literal address; mark is the socket's mark, 0 for none.
func (n *Namespace) Dial(ctx context.Context, addr string, mark int) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout, Control: func(_, _ string, c syscall.RawConn) (err error) {
		if mark != 0 {
			c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark) })
		}
		return err
	}}
	var conn net.Conn
	err := n.Do(func() (err error) {
		conn, err = d.DialContext(ctx, "tcp", addr)
		return err
	})
	return conn, err
}

// Start starts cmd in the namespace. It must not have Pdeathsig set: the thread
// that starts it ends.
func (n *Namespace) Start(cmd *exec.Cmd) error { return n.Do(cmd.Start) }
