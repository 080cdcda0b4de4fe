package intercept

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/dataplane/intercept/netnstest"
)

// serve answers each connection to port, on all addresses, with tag and its
// original destination.
func serve(n *netnstest.Namespace, port int, tag string) {
	for _, network := range []string{"tcp4", "tcp6"} {
		l := n.Listen(network, fmt.Sprintf(":%d", port))
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
func dial(t *testing.T, n *netnstest.Namespace, addr string, mark int) string {
	t.Helper()
	conn, err := n.Dial(t.Context(), addr, mark)
	return read(conn, err)
}

// dialHere is dial in the namespace of the process.
func dialHere(addr string) string {
	conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", addr)
	return read(conn, err)
}

func read(conn net.Conn, err error) string {
	if err != nil {
		return "refused"
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	answer, err := io.ReadAll(conn)
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
