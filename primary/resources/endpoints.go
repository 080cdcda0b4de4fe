package resources

import (
	"cmp"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/eastwest"
	"github.com/isthmus-mesh/isthmus/federation"
)

// View is what a proxy's place changes about a load assignment.
type View = eastwest.View

// NewEndpoints returns the load assignment of an outbound port of svc as view
// sees it. Without endpoints it is empty, and still there.
func NewEndpoints(s *federation.Snapshot, svc *federation.Service, port uint16, view View) (*Resource, error) {
	name := OutboundKey{Service: svc.Key, Port: port}.String()
	r, err := loadAssignment(name, eastwest.Hops(svc, port, view, s), true)
	if err == nil {
		r.Wide = svc.Key.ClusterSet() || svc.Failover
	}
	return r, err
}

// group is where hops stand together in an assignment.
type group struct {
	priority uint32
	locality federation.Locality
	cluster  federation.ClusterName
}

func (g group) compare(o group) int {
	return cmp.Or(cmp.Compare(g.priority, o.priority), cmp.Compare(g.locality.Region, o.locality.Region),
		cmp.Compare(g.locality.Zone, o.locality.Zone), cmp.Compare(g.cluster, o.cluster))
}

// loadAssignment writes hops down, by priority and locality. tunnels says
// whether the reader chooses a transport socket by endpoint.
func loadAssignment(name string, hops []eastwest.Hop, tunnels bool) (*Resource, error) {
	groups := map[group][]eastwest.Hop{}
	var order []group
	for _, h := range hops {
		g := group{h.Priority, h.Locality, h.Cluster}
		if groups[g] == nil {
			order = append(order, g)
		}
		groups[g] = append(groups[g], h)
	}
	slices.SortFunc(order, group.compare)
	a := &endpointv3.ClusterLoadAssignment{
		ClusterName: name,
		Policy:      &endpointv3.ClusterLoadAssignment_Policy{OverprovisioningFactor: u32(100)},
	}
	for _, g := range order {
		a.Endpoints = append(a.Endpoints, localityEndpoints(g, groups[g], tunnels))
	}
	return seal(Endpoints, name, a)
}

func localityEndpoints(g group, hops []eastwest.Hop, tunnels bool) *endpointv3.LocalityLbEndpoints {
	out := &endpointv3.LocalityLbEndpoints{
		Locality: &corev3.Locality{Region: g.locality.Region, Zone: g.locality.Zone, SubZone: string(g.cluster)},
		Priority: g.priority,
	}
	var sum uint32
	for _, h := range hops {
		sum += h.Weight
		out.LbEndpoints = append(out.LbEndpoints, lbEndpoint(h, tunnels))
	}
	out.LoadBalancingWeight = u32(sum)
	return out
}

func lbEndpoint(h eastwest.Hop, tunnels bool) *endpointv3.LbEndpoint {
	via := "direct"
	if h.Gateway {
		via = "gateway"
	}
	data := metadata("isthmus", map[string]string{
		"cluster": string(h.Cluster), "network": string(h.Network), "pod": h.Pod, "via": via,
	})
	if tunnels && h.Tunnel == federation.TunnelMTLS {
		data.FilterMetadata["envoy.transport_socket_match"] = &structpb.Struct{Fields: tunnelMetadata().Fields}
	}
	return &endpointv3.LbEndpoint{
		HostIdentifier:      &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address(h.Addr)}},
		HealthStatus:        corev3.HealthStatus_HEALTHY,
		Metadata:            data,
		LoadBalancingWeight: u32(h.Weight),
	}
}
