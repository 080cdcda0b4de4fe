package cache

import (
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

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
