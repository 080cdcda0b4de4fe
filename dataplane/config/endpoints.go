package config

import (
	"fmt"
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
)

const (
	defaultOverprovision = 140 // Envoy's
	maxPriorities        = 128
)

// parseAssignment reads a load assignment. Of one address that stands in it
// twice the first counts; priorities have no gaps.
func parseAssignment(m *endpointv3.ClusterLoadAssignment) (*Assignment, error) {
	a := &Assignment{Name: m.GetClusterName(), Overprovision: number(m.GetPolicy().GetOverprovisioningFactor(), defaultOverprovision), source: m}
	seen := map[netip.AddrPort]bool{}
	for i, l := range m.GetEndpoints() {
		if err := a.add(fmt.Sprintf("endpoints[%d]", i), l, seen); err != nil {
			return nil, err
		}
	}
	for p := range a.Priorities {
		if a.Priorities[p].Localities == nil {
			return nil, fmt.Errorf("endpoints: no priority %d, but %d", p, len(a.Priorities)-1)
		}
	}
	return a, nil
}

func (a *Assignment) add(path string, m *endpointv3.LocalityLbEndpoints, seen map[netip.AddrPort]bool) error {
	p := int(m.GetPriority())
	if p >= maxPriorities {
		return fmt.Errorf("%s.priority: %d is more than %d", path, p, maxPriorities-1)
	}
	for len(a.Priorities) <= p {
		a.Priorities = append(a.Priorities, Priority{})
	}
	l := Locality{
		Region: m.GetLocality().GetRegion(), Zone: m.GetLocality().GetZone(), SubZone: m.GetLocality().GetSubZone(),
		Weight: number(m.GetLoadBalancingWeight(), 0),
	}
	for i, e := range m.GetLbEndpoints() {
		h, err := parseHost(fmt.Sprintf("%s.lb_endpoints[%d]", path, i), e)
		if err != nil {
			return err
		}
		if !seen[h.Addr] {
			seen[h.Addr] = true
			l.Hosts = append(l.Hosts, h)
		}
	}
	a.Priorities[p].Localities = append(a.Priorities[p].Localities, l)
	return nil
}

func parseHost(path string, m *endpointv3.LbEndpoint) (Host, error) {
	addr, err := address(path+".endpoint.address", m.GetEndpoint().GetAddress())
	if err != nil {
		return Host{}, err
	}
	if addr.Port() == 0 || addr.Addr().IsUnspecified() || addr.Addr().IsMulticast() {
		return Host{}, fmt.Errorf("%s.endpoint.address: %s cannot be called", path, addr)
	}
	info := text(m.GetMetadata().GetFilterMetadata()["isthmus"])
	return Host{
		Addr:    addr,
		Weight:  max(1, number(m.GetLoadBalancingWeight(), 1)),
		Health:  health(m.GetHealthStatus()),
		Match:   text(m.GetMetadata().GetFilterMetadata()["envoy.transport_socket_match"]),
		Cluster: info["cluster"], Network: info["network"], Pod: info["pod"], Via: info["via"],
	}, nil
}

func health(s corev3.HealthStatus) Health {
	switch s {
	case corev3.HealthStatus_DEGRADED:
		return Degraded
	case corev3.HealthStatus_UNHEALTHY, corev3.HealthStatus_DRAINING, corev3.HealthStatus_TIMEOUT: // as Envoy
		return Unhealthy
	default:
		return Healthy
	}
}
