package upstream

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
)

// Host is one address of a Cluster with what is known of it. It survives
// changes of the load assignment as long as its address and transport stay.
type Host struct {
	Addr    netip.AddrPort
	Cluster *Cluster

	info   atomic.Pointer[config.Host]
	active atomic.Int64 // requests and TCP connections under way
	conns  atomic.Int64 // open connections
	tls    *config.UpstreamTLS
	pools  [2]pool // by httpProto

	mu      sync.Mutex
	outlier outlierState
	used    time.Time // of ORIGINAL_DST hosts: last use
}

func newHost(c *Cluster, info *config.Host) *Host {
	h := &Host{Addr: info.Addr, Cluster: c, tls: c.transportOf(info.Match), used: time.Now()}
	h.info.Store(info)
	h.pools[protoH1].init(h, protoH1)
	h.pools[protoH2].init(h, protoH2)
	return h
}

// Info returns what the control plane says of the host.
func (h *Host) Info() *config.Host { return h.info.Load() }

// MTLS reports whether the host is called over mTLS.
func (h *Host) MTLS() bool { return h.tls != nil }

// Begin counts an exchange; the returned function ends it, once.
func (h *Host) Begin() func() {
	h.active.Add(1)
	var once sync.Once
	return func() { once.Do(func() { h.active.Add(-1) }) }
}

// drain lets no new request use the host's pooled connections; those in use
// close when they are done.
func (h *Host) drain() {
	h.pools[protoH1].drain()
	h.pools[protoH2].drain()
}

// sweep closes what is idle or over age.
func (h *Host) sweep(now time.Time) {
	h.pools[protoH1].sweep(now)
	h.pools[protoH2].sweep(now)
}

func (h *Host) touch(now time.Time) {
	h.mu.Lock()
	h.used = now
	h.mu.Unlock()
}

func (h *Host) unusedSince(t time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.used.Before(t) && h.active.Load() == 0 && h.conns.Load() == 0
}
