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
	source map[netip.Addr]int // handshakes in flight
}

func newLimits(conns, shakes int) *limits {
	return &limits{maxConns: conns, maxShakes: shakes, source: map[netip.Addr]int{}}
}

func (l *limits) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conns
}

func (l *limits) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns >= l.maxConns {
		return false
	}
	l.conns++
	return true
}

func (l *limits) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns--
}

// beginShake counts a handshake of src; one source may have half of all.
func (l *limits) beginShake(src netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shakes >= l.maxShakes || l.source[src] >= max(1, l.maxShakes/2) {
		return false
	}
	l.shakes++
	l.source[src]++
	return true
}

func (l *limits) endShake(src netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shakes--
	if l.source[src]--; l.source[src] <= 0 {
		delete(l.source, src)
	}
}
