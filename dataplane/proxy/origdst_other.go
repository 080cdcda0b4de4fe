//go:build !linux

package proxy

import (
	"net"
	"net/netip"
)

// originalDst is the local address: redirection is known on Linux only.
func originalDst(c net.Conn) (netip.AddrPort, error) { return addrPort(c.LocalAddr()), nil }
