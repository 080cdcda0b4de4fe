package cache

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

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
