package proxy

import (
	"net/netip"
	"sync"
)

// limits counts connections and handshakes in flight, so that a flood of slow
// clients costs bounded memory and leaves room for others.
type limits struct {
	maxConns, maxShakes int

	mu     sync.Mutex
	conns  int
	shakes int
	source map[netip.Addr]sourceCount
}

// sourceCount is what one address holds.
type sourceCount struct{ conns, shakes int }

func newLimits(conns, shakes int) *limits {
	return &limits{maxConns: conns, maxShakes: shakes, source: map[netip.Addr]sourceCount{}}
}

func (l *limits) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conns
}

// begin counts a connection of src. One source may have three quarters of all:
// it may be the only one (the pod itself, or a gateway), but shuts nobody out.
func (l *limits) begin(src netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns >= l.maxConns || l.source[src].conns >= max(1, l.maxConns/4*3) {
		return false
	}
	l.count(src, 1, 0)
	return true
}

func (l *limits) end(src netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count(src, -1, 0)
}

// count adds to what is open, and forgets a source that holds nothing.
func (l *limits) count(src netip.Addr, conns, shakes int) {
	l.conns += conns
	l.shakes += shakes
	s := l.source[src]
	s.conns += conns
	s.shakes += shakes
	if l.source[src] = s; s == (sourceCount{}) {
		delete(l.source, src)
	}
}

// beginShake counts a handshake of src; one source may have half of all.
func (l *limits) beginShake(src netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shakes >= l.maxShakes || l.source[src].shakes >= max(1, l.maxShakes/2) {
		return false
	}
	l.count(src, 0, 1)
	return true
}

func (l *limits) endShake(src netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count(src, 0, -1)
}
