package proxy

import (
	"net"
	"net/netip"
	"sync"
)

// ownPorts knows the proxy's own listeners. To call one of them would be a
// loop: the connection would come back until the machine has no more sockets.
type ownPorts struct {
	mu    sync.RWMutex
	ports map[uint16]int
}

func (o *ownPorts) add(a net.Addr) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ports == nil {
		o.ports = map[uint16]int{}
	}
	o.ports[addrPort(a).Port()]++
}

func (o *ownPorts) remove(a net.Addr) {
	o.mu.Lock()
	defer o.mu.Unlock()
	port := addrPort(a).Port()
	if o.ports[port]--; o.ports[port] <= 0 {
		delete(o.ports, port)
	}
}

// contains reports whether addr is a listener of this proxy.
func (o *ownPorts) contains(addr netip.AddrPort) bool {
	o.mu.RLock()
	mine := o.ports[addr.Port()] > 0
	o.mu.RUnlock()
	return mine && isLocal(addr.Addr().Unmap())
}

// isLocal reports whether addr is one of this network namespace. When the
// kernel does not tell, it is taken for local: better an error than a loop.
func isLocal(addr netip.Addr) bool {
	if addr.IsLoopback() || addr.IsUnspecified() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == addr.WithZone("") {
				return true
			}
		}
	}
	return false
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
