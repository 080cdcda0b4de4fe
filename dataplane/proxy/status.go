package proxy

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/proxy/upstream"
)

// ListenerStatus is a listener as the admin page shows it.
type ListenerStatus struct {
	Name        string   `json:"name"`
	Addresses   []string `json:"addresses"` // of the configuration
	Bound       []string `json:"bound"`     // sockets that are open
	Chains      int      `json:"chains"`
	Connections int      `json:"connections"`
	Fault       string   `json:"fault,omitempty"` // drop or refuse: a drill is under way
}

// Listeners describes all listeners, by name.
func (p *Proxy) Listeners() []ListenerStatus {
	t := p.table.Load()
	out := make([]ListenerStatus, 0, len(t.byName))
	for _, name := range slices.Sorted(maps.Keys(t.byName)) {
		l := t.byName[name]
		s := ListenerStatus{Name: name, Chains: len(l.chains), Addresses: []string{}, Bound: []string{}, Fault: p.faults.mode(name).String()}
		for _, a := range l.cfg.Addresses {
			s.Addresses = append(s.Addresses, a.String())
		}
		for _, a := range p.Bound(name) {
			s.Bound = append(s.Bound, a.String())
		}
		for _, c := range l.chains {
			s.Connections += c.conns.len()
		}
		out = append(out, s)
	}
	return out
}

// Bound returns the addresses at which the sockets of a listener are open.
func (p *Proxy) Bound(listener string) []net.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []net.Addr
	for _, at := range slices.SortedFunc(maps.Keys(p.sockets), netip.AddrPort.Compare) {
		if s := p.sockets[at]; *s.listener.Load() == listener {
			out = append(out, s.ln.Addr())
		}
	}
	return out
}

// Clusters describes all xds clusters and their hosts, by name.
func (p *Proxy) Clusters() []upstream.ClusterStatus {
	now := time.Now()
	out := []upstream.ClusterStatus{}
	for _, c := range p.set.Clusters() {
		out = append(out, c.Status(now))
	}
	return out
}

// Connections returns how many downstream connections are open.
func (p *Proxy) Connections() int { return p.limits.open() }
