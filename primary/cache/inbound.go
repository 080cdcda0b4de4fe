package cache

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// memo keeps, for a member, what was found out about its workload, and all that
// it was found from.
type memo struct {
	load   *federation.Workload
	proved bool           // the member is that workload
	inside []netip.Prefix // of its cluster, where bound
	bound  bool           // the inbound side depends on it
	key    string         // of the InboundView
}

// own returns the inbound side of m's pod, and whether the snapshot has the pod.
// It grows with the members, so it makes nothing for a pod that did not change.
func (c *Cache) own(m *Member, used map[string]*Set) (*Set, bool) {
	w := c.snapshot.Workload(m.proxy.Workload)
	if w == nil {
		return nil, false
	}
	if w != m.memo.load {
		m.memo = memo{load: w, proved: w.Account.String() == m.proxy.Identity}
	}
	if !m.memo.proved {
		return nil, false
	}
	cluster := c.snapshot.Cluster(w.Key.Cluster)
	if m.memo.key == "" || m.memo.bound && cluster != nil && !slices.Equal(m.memo.inside, cluster.Inside) {
		view := resources.InboundOf(w, cluster)
		m.memo.key, m.memo.inside = view.Key(), view.Inside
		m.memo.bound = slices.ContainsFunc(view.Ports, func(p resources.InboundPort) bool { return p.From != nil })
	}
	key := m.memo.key
	if set, ok := used[key]; ok {
		return set, true
	}
	set := c.inbound[key]
	if set == nil {
		var err error
		if set, err = inboundSet(resources.InboundOf(w, cluster)); err != nil {
			c.log.Warn("workload left without inbound listener", "proxy", fmt.Sprint(w.Key), "err", err)
		}
	}
	used[key] = set
	return set, true
}

func inboundSet(view resources.InboundView) (*Set, error) {
	ed := newEdit(nil)
	l, err := resources.NewInbound(view)
	if err != nil {
		return nil, err
	}
	ed.put(l)
	for _, p := range view.Ports {
		if !p.Declared {
			continue
		}
		r, err := resources.NewInboundCluster(p.Port, p.Protocol != federation.ProtocolTCP && p.Protocol != federation.ProtocolUDP)
		if err != nil {
			return nil, err
		}
		ed.put(r)
	}
	return ed.done(nil), nil
}
