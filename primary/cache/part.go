package cache

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// part is what a group is sent of one service.
type part struct {
	resources []*resources.Resource
	claims    []claim
}

// claim says that a listener wants an address. Two listeners with one address
// would be refused by Envoy, so the group lets one have it.
type claim struct {
	addr netip.AddrPort
	name string
}

func (p *part) equal(o *part) bool {
	return p == o || o != nil && slices.Equal(p.resources, o.resources) && slices.Equal(p.claims, o.claims)
}

// partOf returns what group g is sent of e's service, made at most once, and
// the same pointer as before where it came out the same. The error joins what
// was wrong with single ports; the others are there.
func (e *entry) partOf(s *federation.Snapshot, g Group) (*part, error) {
	if p := e.parts[g]; p != nil {
		return p, nil
	}
	b := &partBuilder{entry: e, s: s, group: g, part: new(part)}
	switch g.Kind {
	case EastWest:
		b.gateway()
	case Entry:
		b.entryGateway()
	case Sidecar:
		b.sidecar()
	}
	if e.old != nil && b.part.equal(e.old.parts[g]) {
		b.part = e.old.parts[g]
	}
	e.parts[g] = b.part
	return b.part, b.joined()
}

type partBuilder struct {
	*entry
	s     *federation.Snapshot
	group Group
	part  *part
	errs  []error
}

// maxTold is how many things wrong with one service are told; it may have
// thousands of pods.
const maxTold = 5

func (b *partBuilder) joined() error {
	if more := len(b.errs) - maxTold; more > 0 {
		return errors.Join(append(b.errs[:maxTold:maxTold], fmt.Errorf("and %d more", more))...)
	}
	return errors.Join(b.errs...)
}

// add takes all resources of one port, or of one pod's, or none where one could not be made.
func (b *partBuilder) add(claims []claim, made ...func() (*resources.Resource, error)) {
	var all []*resources.Resource
	for _, m := range made {
		r, err := m()
		if err != nil {
			b.errs = append(b.errs, err)
			return
		}
		if r != nil {
			all = append(all, r)
		}
	}
	b.part.resources = append(b.part.resources, all...)
	b.part.claims = append(b.part.claims, claims...)
}

// maxPorts bounds the ports of one service: each costs every proxy four
// resources.
const maxPorts = 1000

func claimsOf(name string, addrs []netip.AddrPort) []claim {
	var out []claim
	for _, a := range addrs {
		out = append(out, claim{a, name})
	}
	return out
}
