package fault

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// backlog is asked for by a listener that listens again; the kernel cuts it to what it allows.
const backlog = 4096

// Deafen makes the socket drop every packet that comes, before TCP sees it: a listener answers no SYN, a
// connection neither hears nor acknowledges. It takes a socket filter that accepts nothing (socket(7),
// SO_ATTACH_FILTER), which needs no privilege. MPTCP sockets have none. A connection that a
// deaf listener accepts is deaf, too.
func Deafen(c syscall.Conn) error {
	nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
	return control("deafen socket", c, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing})
	})
}

// Hear undoes Deafen; a socket that hears is left as it is.
func Hear(c syscall.Conn) error {
	return control("undeafen socket", c, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
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
