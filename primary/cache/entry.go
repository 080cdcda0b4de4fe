package cache

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// entry holds what was encoded for one service, for all groups.
type entry struct {
	svc      *federation.Service
	topology string // as topology.of gave it
	taken    string // ports at entry gateways that another service has; as takenEntries gave it
	accounts string // svc.Accounts as a comparable value
	encoded  map[any]*resources.Resource
	parts    map[Group]*part
	old      *entry // of the last snapshot, while this one is filled
}

func newEntry(svc *federation.Service, topology, taken string, old *entry) *entry {
	var b strings.Builder
	for _, id := range svc.Accounts {
		b.WriteString(id.String())
		b.WriteByte(' ')
	}
	return &entry{
		svc: svc, topology: topology, taken: taken, accounts: b.String(), old: old,
		encoded: map[any]*resources.Resource{}, parts: map[Group]*part{},
	}
}

// Keys of encodings. Those of listeners, routes and xds clusters hold every
// input of their generator, so an encoding is good for as long as its key
// comes up, and so do those of single pods. The load assignment of a service has
// too many inputs for that: its key is good for one service value in one topology.
type (
	listenerKey struct {
		name     resources.OutboundKey
		protocol federation.Protocol
		addrs    string
	}
	routeKey   struct{ name resources.OutboundKey }
	clusterKey struct {
		name       resources.OutboundKey
		protocol   federation.Protocol
		view       resources.ClusterView
		identities string
	}
	endpointsKey struct {
		port uint16
		view resources.View
	}
	podEndpointsKey struct {
		name resources.OutboundKey
		view resources.PodView
	}
	entryKey struct {
		name       resources.OutboundKey
		port       uint16
		identities string
	}
	gatewayClusterKey struct {
		service federation.ServiceKey
		port    uint16
	}
	gatewayEndpointsKey struct {
		port    uint16
		network federation.NetworkName
	}
	gatewayPodKey          struct{ name resources.OutboundKey }
	gatewayPodEndpointsKey struct {
		name resources.OutboundKey
		view resources.PodView
	}
)

// generator makes one resource; only the cache calls it, and only on a miss.
type generator func() (*resources.Resource, error)

// lasting returns the resource of a key that holds every input of generate.
func (e *entry) lasting(key any, generate generator) (*resources.Resource, error) {
	if r := e.encoded[key]; r != nil {
		return r, nil
	}
	if e.old != nil && e.old.encoded[key] != nil {
		r := e.old.encoded[key]
		e.encoded[key] = r
		return r, nil
	}
	r, err := generate()
	if err == nil {
		e.encoded[key] = r
	}
	return r, err
}

// fresh returns the resource of a key that is good for this entry only. Where
// the bytes came out as before, the old resource stays, so that nobody is sent
// anything.
func (e *entry) fresh(key any, generate generator) (*resources.Resource, error) {
	if r := e.encoded[key]; r != nil {
		return r, nil
	}
	r, err := generate()
	if err != nil {
		return nil, err
	}
	if e.old != nil {
		if before := e.old.encoded[key]; before != nil && before.Version == r.Version {
			r = before
		}
	}
	e.encoded[key] = r
	return r, nil
}
