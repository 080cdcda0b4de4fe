package cache

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// Kind is what a proxy is for.
type Kind uint8

const (
	Sidecar  Kind = iota
	EastWest      // gateway
	Entry         // gateway
)

// String returns the kind as PROXY_TYPE says it.
func (k Kind) String() string {
	switch k {
	case EastWest:
		return api.GatewayEastWest
	case Entry:
		return api.GatewayEntry
	case Sidecar:
	}
	return "sidecar"
}

// Group is what decides which shared resources a proxy is sent. It is a
// proxy's place, proved where it can be, and no wider than that.
type Group struct {
	Kind    Kind
	Cluster federation.ClusterName
	Network federation.NetworkName
	Zone    string
	MTLS    bool // speaks the mesh's mTLS
}

// groupState is what the cache keeps of a group while it has members.
type groupState struct {
	group   Group
	members int
	parts   map[federation.ServiceKey]*part // of visible services
	beaten  map[string]bool                 // listeners whose address another has
	clashes map[federation.ServiceKey]string
	set     *Set
	entry   *entryListener        // of entry gateways, once there is one
	static  []*resources.Resource // what comes from no service
}

// visible reports whether members of g are sent anything of svc.
func (g Group) visible(svc *federation.Service) bool {
	switch g.Kind {
	case EastWest:
		return svc.Key.ClusterSet()
	case Entry:
		return svc.Key.ClusterSet() && !svc.Headless && !onlyHidden(svc) &&
			slices.ContainsFunc(svc.EntryPorts, func(p federation.EntryPort) bool { return p.Cluster == g.Cluster })
	case Sidecar:
	}
	return svc.VisibleTo(g.Cluster) && !onlyHidden(svc)
}

// onlyHidden reports whether nobody who exports svc lets it be called from here.
// Where such a one is Lost, and so no longer listed, the import is still there.
func onlyHidden(svc *federation.Service) bool { return svc.OnlyHidden() && svc.Declared == nil }

// turn is what became of a part.
type turn struct{ before, after *part }

// update brings the group's Set to snapshot s, in which those services changed;
// make returns the part of a service that is there.
func (g *groupState) update(s *federation.Snapshot, changed []federation.ServiceKey, static []*resources.Resource, make func(*federation.Service) *part) {
	ed := newEdit(g.set)
	g.withdrawStatic(ed, static)
	for _, r := range static {
		ed.put(r)
	}
	var turns []turn
	moved := false // some listener's address
	for _, key := range changed {
		t := turn{before: g.parts[key]}
		if svc := s.Service(key); svc != nil && g.group.visible(svc) {
			t.after = make(svc)
			g.parts[key] = t.after
		} else {
			delete(g.parts, key)
		}
		if t.before != t.after {
			turns = append(turns, t)
			moved = moved || !sameClaims(t.before, t.after)
		}
	}
	beaten := g.beaten
	if moved {
		beaten, g.clashes = settle(s, g.parts)
	}
	// First all that goes: a name may pass from one service to another.
	for _, t := range turns {
		t.withdraw(ed)
	}
	for _, t := range turns {
		t.present(ed, beaten)
	}
	if moved {
		g.release(ed, g.parts, beaten)
	}
	g.beaten, g.set = beaten, ed.done(g.set)
}

func sameClaims(a, b *part) bool {
	if a == nil || b == nil {
		return (a == nil || len(a.claims) == 0) && (b == nil || len(b.claims) == 0)
	}
	return slices.Equal(a.claims, b.claims)
}

// withdraw takes out what only before had.
func (t turn) withdraw(ed *edit) {
	if t.before == nil {
		return
	}
	kept := map[resources.Type]map[string]bool{}
	if t.after != nil {
		for _, r := range t.after.resources {
			if kept[r.Type] == nil {
				kept[r.Type] = map[string]bool{}
			}
			kept[r.Type][r.Name] = true
		}
	}
	for _, r := range t.before.resources {
		if !kept[r.Type][r.Name] {
			ed.remove(r.Type, r.Name)
		}
	}
}

// present puts in what after has, listeners without an address aside.
func (t turn) present(ed *edit, beaten map[string]bool) {
	if t.after == nil {
		return
	}
	for _, r := range t.after.resources {
		if r.Type != resources.Listener || !beaten[r.Name] {
			ed.put(r)
		}
	}
}

// release corrects the listeners of services that did not change themselves,
// but whose address became free or was taken.
func (g *groupState) release(ed *edit, parts map[federation.ServiceKey]*part, beaten map[string]bool) {
	for name := range beaten {
		ed.remove(resources.Listener, name)
	}
	if len(g.beaten) == 0 {
		return
	}
	for _, p := range parts {
		for _, r := range p.resources {
			if r.Type == resources.Listener && g.beaten[r.Name] && !beaten[r.Name] {
				ed.put(r)
			}
		}
	}
}

// settle decides who has an address that several listeners want: services of
// the own cluster before those of the clusterset, then by key. It returns the
// listeners that go without, and what to say of their services: a pod behind two
// headless services is nothing to tell, an address of two services is.
func settle(s *federation.Snapshot, parts map[federation.ServiceKey]*part) (beaten map[string]bool, clashes map[federation.ServiceKey]string) {
	owner := map[netip.AddrPort]string{}
	beaten, clashes = map[string]bool{}, map[federation.ServiceKey]string{}
	for _, clusterset := range []bool{false, true} {
		for svc := range s.Services() {
			p := parts[svc.Key]
			if p == nil || svc.Key.ClusterSet() != clusterset {
				continue
			}
			for _, c := range p.claims {
				if owner[c.addr] == "" {
					owner[c.addr] = c.name
				} else if owner[c.addr] != c.name {
					beaten[c.name] = true
					if !svc.Headless {
						clashes[svc.Key] = fmt.Sprintf("%s is the address of %s already", c.addr, owner[c.addr])
					}
				}
			}
		}
	}
	return beaten, clashes
}
