package intercept

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A namespace is a fresh network namespace.
type namespace struct {
	t    *testing.T
	file *os.File
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	n := &namespace{t: t}
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		n.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Skipf("SKIPPED, interception is not tested: a network namespace cannot be made: %v", err)
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

// do runs f inside the namespace. Sockets that f makes stay there.
func (n *namespace) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

func (n *namespace) must(f func() error) {
	n.t.Helper()
	if err := n.do(f); err != nil {
		n.t.Fatal(err)
	}
}

// connect makes a device named eth0 on both sides and gives it addresses.
func connect(a, b *namespace, addrA, addrB []string) {
	a.must(func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(b.file.Fd()),
		})
	})
	a.must(func() error { return bringUp(addrA) })
	b.must(func() error { return bringUp(addrB) })
}

func bringUp(addrs []string) error {
	for _, dev := range []string{"lo", "eth0"} {
		link, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		if dev == "lo" {
			continue
		}
		for _, s := range addrs {
			a, err := netlink.ParseAddr(s)
			if err != nil {
				return err
			}
			a.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(link, a); err != nil {
				return fmt.Errorf("add %s: %w", s, err)
			}
		}
	}
	return nil
}

// serve answers each connection to port, on all addresses, with tag and its
// original destination.
func (n *namespace) serve(port int, tag string) {
	n.t.Helper()
	for _, network := range []string{"tcp4", "tcp6"} {
		var l net.Listener
		n.must(func() (err error) {
			l, err = net.Listen(network, fmt.Sprintf(":%d", port))
			return err
		})
		n.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprintf(c, "%s %s", tag, originalDestination(c.(*net.TCPConn)))
				c.Close()
			}
		}()
	}
}

// dial returns what the server at addr answers, or "refused".
func (n *namespace) dial(addr string, mark int) string {
	n.t.Helper()
	var answer []byte
	d := net.Dialer{Timeout: 5 * time.Second, Control: func(_, _ string, c syscall.RawConn) (err error) {
		if mark != 0 {
			c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark) })
		}
		return err
	}}
	err := n.do(func() error {
		c, err := d.Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		answer, err = io.ReadAll(c)
		return err
	})
	if err != nil {
		return "refused"
	}
	return string(answer)
}

// dialHere is dial in the namespace of the process.
func (n *namespace) dialHere(addr string) string {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return "refused"
	}
	defer c.Close()
	answer, err := io.ReadAll(c)
	if err != nil {
		return "refused"
	}
	return string(answer)
}

// originalDestination asks conntrack where c was meant to go; "-" when it was not redirected.
func originalDestination(c *net.TCPConn) string {
	raw, err := c.SyscallConn()
	if err != nil {
		return err.Error()
	}
	got := "-"
	raw.Control(func(fd uintptr) {
		local := netip.MustParseAddrPort(c.LocalAddr().String())
		var dst netip.AddrPort
		if local.Addr().Is4() {
			dst, err = original4(fd)
		} else {
			dst, err = original6(fd)
		}
		if err == nil && dst != local {
			got = dst.String()
		}
	})
	return got
}

func original4(fd uintptr) (netip.AddrPort, error) {
	var a unix.RawSockaddrInet4
	err := getsockopt(fd, unix.SOL_IP, unsafe.Pointer(&a), unsafe.Sizeof(a))
	return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), a.Port>>8|a.Port<<8), err
}

func original6(fd uintptr) (netip.AddrPort, error) {
	var a unix.RawSockaddrInet6
	err := getsockopt(fd, unix.SOL_IPV6, unsafe.Pointer(&a), unsafe.Sizeof(a))
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), a.Port>>8|a.Port<<8), err
}

func getsockopt(fd uintptr, level int, p unsafe.Pointer, size uintptr) error {
	const soOriginalDst = 80
	n := uint32(size)
	if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, uintptr(level), soOriginalDst, uintptr(p), uintptr(unsafe.Pointer(&n)), 0); errno != 0 {
		return errno
	}
	return nil
}
