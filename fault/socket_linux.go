package fault

import (
	"errors"
	"fmt"
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// backlog is asked for by a listener that listens again; the kernel cuts it to what it allows.
const backlog = 4096

// Deafen cuts a socket off as a firewall does that drops: what it sends dies at the first router, since it may not
// be passed on (IP_TTL, IPV6_UNICAST_HOPS), so that nobody gets an acknowledgement, nor a listener's SYN+ACK; and what
// comes waits in the kernel, where readers are not told of less than some MiB (SO_RCVLOWAT). None of that takes
// a privilege, as a filter on a TCP socket does. It says nothing to peers that no router is before. MPTCP sockets
// have no such options.
func Deafen(c syscall.Conn) error { return limit("deafen socket", c, 1, math.MaxInt32) }

// Hear undoes Deafen: what was kept back is read, and what died is sent again by TCP. A socket that hears is
// left as it is, but for a limit of hops that somebody else has set.
func Hear(c syscall.Conn) error { return limit("undeafen socket", c, usualHops, 1) }

// usualHops leaves the limit to the system.
const usualHops = -1

func limit(what string, c syscall.Conn, hops, readable int) error {
	return control(what, c, func(fd int) error {
		family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil {
			return err
		}
		if family == unix.AF_INET6 {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, hops)
		}
		return errors.Join(err,
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, hops), // of IPv4 in an IPv6 socket, too
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, readable))
	})
}

// Shut makes a TCP listener refuse connections, those too that it has not accepted yet. It keeps its address if
// that was bound by number. Accept fails until Reopen.
func Shut(l syscall.Conn) error {
	return control("shut listener", l, func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RD) })
}

// Reopen undoes Shut.
func Reopen(l syscall.Conn) error {
	return control("reopen listener", l, func(fd int) error { return unix.Listen(fd, backlog) })
}

func control(what string, c syscall.Conn, do func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	var doErr error
	if err := raw.Control(func(fd uintptr) { doErr = do(int(fd)) }); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if doErr != nil {
		return fmt.Errorf("%s: %w", what, doErr)
	}
	return nil
}
