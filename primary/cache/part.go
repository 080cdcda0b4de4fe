package cache

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

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
	return b.part, errors.Join(b.errs...)
}

type partBuilder struct {
	*entry
	s     *federation.Snapshot
	group Group
	part  *part
	errs  []error
}

// add takes all resources of one port, or none where one could not be made.
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

func (b *partBuilder) sidecar() {
	if n := len(b.svc.Ports); n > maxPorts {
		b.errs = append(b.errs, fmt.Errorf("%w: %s has %d ports, at most %d", resources.ErrInvalid, b.svc.Key.Hostname(), n, maxPorts))
		return
	}
	for _, port := range b.svc.Ports {
		switch {
		case port.Protocol == federation.ProtocolUDP:
		case port.Number == 0:
			b.errs = append(b.errs, fmt.Errorf("%w: port 0 of %s", resources.ErrInvalid, b.svc.Key.Hostname()))
		case b.svc.Headless:
			for _, pod := range resources.Pods(b.s, b.svc, port.Number, b.podView()) {
				b.pod(port, pod)
			}
		default:
			b.service(port)
		}
	}
}

// service adds the resources of a port that is called at the service's address.
func (b *partBuilder) service(port federation.Port) {
	name := resources.OutboundKey{Service: b.svc.Key, Port: port.Number}
	addrs := resources.ListenerAddrs(b.svc, port.Number, b.group.Cluster)
	view := resources.ClusterView{Distant: resources.Distant(b.s, b.svc, b.group.Network), MTLS: b.group.MTLS}
	b.add(claimsOf(name.String(), addrs), func() (*resources.Resource, error) {
		return b.lasting(clusterKey{name, port.Protocol, view, b.accounts}, func() (*resources.Resource, error) {
			return resources.NewCluster(b.svc, port, view)
		})
	}, b.endpoints(port.Number), b.listener(name, port.Protocol, addrs), b.route(name, port.Protocol))
}

// endpoints makes the load assignment of a port as the group sees it.
func (b *partBuilder) endpoints(port uint16) generator {
	view := resources.View{Cluster: b.group.Cluster, Network: b.group.Network, MTLS: b.group.MTLS}
	if b.svc.SameZone {
		view.Zone = b.group.Zone
	}
	if b.group.Kind == Entry {
		view.Entry = slices.ContainsFunc(b.svc.Exports, func(e federation.Export) bool { return e.NoEntry })
	}
	return func() (*resources.Resource, error) {
		return b.fresh(endpointsKey{port, view}, func() (*resources.Resource, error) {
			return resources.NewEndpoints(b.s, b.svc, port, view)
		})
	}
}

// podView is what the group's place changes about single pods.
func (b *partBuilder) podView() resources.View {
	return resources.View{Cluster: b.group.Cluster, Network: b.group.Network, MTLS: b.group.MTLS}
}

// pod adds the resources of a port of one pod of a headless service.
func (b *partBuilder) pod(port federation.Port, pod resources.PodPort) {
	name := pod.Key(b.svc)
	addrs := []netip.AddrPort{pod.Addr}
	view := b.podView()
	cluster := clusterKey{name, port.Protocol, resources.ClusterView{Distant: pod.Distant, MTLS: b.group.MTLS}, pod.Endpoint.Account.String()}
	b.add(claimsOf(name.String(), addrs), func() (*resources.Resource, error) {
		return b.lasting(cluster, func() (*resources.Resource, error) {
			return resources.NewPodCluster(b.svc, port, pod, b.group.MTLS)
		})
	}, func() (*resources.Resource, error) {
		return b.lasting(podEndpointsKey{name, pod.ViewedBy(view, b.topology)}, func() (*resources.Resource, error) {
			return resources.NewPodEndpoints(b.s, b.svc, pod, view)
		})
	}, b.listener(name, port.Protocol, addrs), b.route(name, port.Protocol))
}

func (b *partBuilder) listener(name resources.OutboundKey, protocol federation.Protocol, addrs []netip.AddrPort) generator {
	return func() (*resources.Resource, error) {
		return b.lasting(listenerKey{name, protocol, fmt.Sprint(addrs)}, func() (*resources.Resource, error) {
			return resources.NewListener(name, protocol, addrs)
		})
	}
}

func (b *partBuilder) route(name resources.OutboundKey, protocol federation.Protocol) generator {
	return func() (*resources.Resource, error) {
		if protocol == federation.ProtocolTCP {
			return nil, nil
		}
		return b.lasting(routeKey{name}, func() (*resources.Resource, error) { return resources.NewRoute(name) })
	}
}

func (b *partBuilder) gateway() {
	ports := resources.Exposed(b.s, b.svc, b.group.Network)
	if len(ports) > maxPorts {
		b.errs = append(b.errs, fmt.Errorf("%w: %s exports %d ports, at most %d", resources.ErrInvalid, b.svc.Key.Hostname(), len(ports), maxPorts))
		return
	}
	for _, port := range ports {
		b.add(nil, func() (*resources.Resource, error) {
			return b.lasting(gatewayClusterKey{b.svc.Key, port}, func() (*resources.Resource, error) {
				return resources.NewGatewayCluster(b.svc.Key, port)
			})
		}, func() (*resources.Resource, error) {
			return b.fresh(gatewayEndpointsKey{port, b.group.Network}, func() (*resources.Resource, error) {
				return resources.NewGatewayEndpoints(b.s, b.svc, port, b.group.Network)
			})
		})
		if b.svc.Headless {
			for _, pod := range resources.GatewayPods(b.s, b.svc, port, b.group.Network) {
				b.gatewayPod(pod)
			}
		}
	}
}

// gatewayPod adds what lets others call one pod of a headless service.
func (b *partBuilder) gatewayPod(pod resources.PodPort) {
	name := pod.Key(b.svc)
	b.add(nil, func() (*resources.Resource, error) {
		return b.lasting(gatewayPodKey{name}, func() (*resources.Resource, error) {
			return resources.NewGatewayPodCluster(b.svc.Key, pod)
		})
	}, func() (*resources.Resource, error) {
		return b.lasting(gatewayPodEndpointsKey{name, pod.ViewedBy(resources.View{}, "")}, func() (*resources.Resource, error) {
			return resources.NewGatewayPodEndpoints(b.svc.Key, pod)
		})
	})
}

// entryGateway adds the ports of the entry gateway that lead to the service, and
// their load assignments.
func (b *partBuilder) entryGateway() {
	for _, p := range b.svc.EntryPorts {
		if port, ok := b.svc.Port(p.Service); p.Cluster != b.group.Cluster || !ok || port.Protocol == federation.ProtocolUDP {
			continue
		}
		if strings.Contains(b.taken, takenEntry(p)) {
			b.errs = append(b.errs, fmt.Errorf("%w: entry port %d of %s is another's", resources.ErrInvalid, p.Port, b.svc.Key.Hostname()))
			continue
		}
		name := resources.OutboundKey{Service: b.svc.Key, Port: p.Service}
		b.add(nil, func() (*resources.Resource, error) {
			return b.lasting(entryKey{name, p.Port, b.accounts}, func() (*resources.Resource, error) {
				return resources.NewEntryCluster(b.svc, p.Service, p.Port)
			})
		}, b.endpoints(p.Service))
	}
}

func claimsOf(name string, addrs []netip.AddrPort) []claim {
	var out []claim
	for _, a := range addrs {
		out = append(out, claim{a, name})
	}
	return out
}
