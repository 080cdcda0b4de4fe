package resources

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	directv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	sniclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_cluster/v3"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/eastwest"
	"github.com/isthmus-mesh/isthmus/federation"
)

// NewEastWest returns the listener of an east-west gateway. It is the same for
// all: what can be reached through it is what xds clusters there are.
func NewEastWest() (*Resource, error) {
	l := &listenerv3.Listener{
		Name:                   EastWestName,
		ListenerFilters:        []*listenerv3.ListenerFilter{tlsInspector()},
		ListenerFiltersTimeout: seconds(5 * time.Second),
		FilterChains: []*listenerv3.FilterChain{
			{
				FilterChainMatch: meshTLS(api.ProbeName),
				TransportSocket:  probeTLS(),
				Filters:          []*listenerv3.Filter{probeAnswer()},
			},
			{
				FilterChainMatch: meshTLS("*." + api.SNISuffix),
				Filters: []*listenerv3.Filter{
					networkFilter("envoy.filters.network.sni_cluster", new(sniclusterv3.SniCluster)),
					tcpProxy(EastWestName, blackholeName),
				},
			},
		},
	}
	l.Address, l.AdditionalAddresses = everywhere(api.PortEastWest)
	return seal(Listener, EastWestName, l)
}

// meshTLS matches a ClientHello of the mesh for serverName. sni_cluster reaches
// any xds cluster of the process, so nothing else may come to it.
func meshTLS(serverName string) *listenerv3.FilterChainMatch {
	return &listenerv3.FilterChainMatch{
		ServerNames:          []string{serverName},
		TransportProtocol:    "tls",
		ApplicationProtocols: []string{api.ALPN},
	}
}

func probeAnswer() *listenerv3.Filter {
	return networkFilter("envoy.filters.network.direct_response", &directv3.Config{
		Response: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: "ok"}},
	})
}

// Exposed returns the ports of svc that gateways of network pass on: those that
// a cluster of that network exports to others, sorted, by the import's numbers,
// which are what callers know. Only clusterset services have any.
func Exposed(s *federation.Snapshot, svc *federation.Service, network federation.NetworkName) []uint16 {
	var out []uint16
	for i := range svc.Exports {
		e := &svc.Exports[i]
		if c := s.Cluster(e.Cluster); c == nil || c.Network != network || c.Lost || within(s, e, network) {
			continue
		}
		out = append(out, e.Numbers...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// within reports whether e lets nobody call but clusters of network, its own. Who
// comes by a gateway of that is of another, and would be refused.
func within(s *federation.Snapshot, e *federation.Export, network federation.NetworkName) bool {
	return e.To != nil && !slices.ContainsFunc(e.To, func(name federation.ClusterName) bool {
		c := s.Cluster(name)
		return c == nil || c.Network != network
	})
}

// offerers returns of which clusters gateways of network pass on endpoints of
// svc: all but those that are Lost or whose export stays within network.
func offerers(s *federation.Snapshot, svc *federation.Service, network federation.NetworkName) func(federation.ClusterName) bool {
	var inner []federation.ClusterName
	for i := range svc.Exports {
		if e := &svc.Exports[i]; within(s, e, network) {
			inner = append(inner, e.Cluster)
		}
	}
	return func(name federation.ClusterName) bool {
		c := s.Cluster(name)
		return (c == nil || !c.Lost) && !slices.Contains(inner, name)
	}
}

// NewGatewayCluster returns the xds cluster by which a gateway passes on
// connections for port of svc. Its name is the server name.
func NewGatewayCluster(key federation.ServiceKey, port uint16) (*Resource, error) {
	name, err := gatewayName(key, port)
	if err != nil {
		return nil, err
	}
	return passOn(name)
}

// NewGatewayPodCluster returns the xds cluster by which a gateway passes on
// connections to one pod of a headless service.
func NewGatewayPodCluster(key federation.ServiceKey, p PodPort) (*Resource, error) {
	name, err := gatewayPodName(key, p)
	if err != nil {
		return nil, err
	}
	return passOn(name)
}

func passOn(name string) (*Resource, error) {
	c := edsCluster(name)
	c.UpstreamBindConfig = bindConfig(userTimeoutOption())
	return seal(Cluster, name, c)
}

// NewGatewayEndpoints returns what stands behind a gateway of network for port
// of svc: ready pods of that network that have a sidecar and that somebody of
// another may call, and no gateway. Those of drained clusters come last.
func NewGatewayEndpoints(s *federation.Snapshot, svc *federation.Service, port uint16, network federation.NetworkName) (*Resource, error) {
	name, err := gatewayName(svc.Key, port)
	if err != nil {
		return nil, err
	}
	var hops []eastwest.Hop
	seen := map[netip.AddrPort]bool{}
	offers := offerers(s, svc, network)
	for i := range svc.Endpoints {
		e := &svc.Endpoints[i]
		target, _ := e.Target(port)
		addr := netip.AddrPortFrom(e.Addr, target)
		if e.Network != network || !eastwest.Offered(e, port) || !e.Addr.IsValid() || seen[addr] || !offers(e.Cluster) {
			continue
		}
		seen[addr] = true
		hops = append(hops, podHop(e, addr))
	}
	return loadAssignment(name, eastwest.GiveWay(hops, s), false)
}

// GatewayPods returns the pods to which gateways of network pass on connections
// for port of a headless service: those of that network that have a sidecar and
// that somebody of another may call, ready or not.
func GatewayPods(s *federation.Snapshot, svc *federation.Service, port uint16, network federation.NetworkName) []PodPort {
	var out []PodPort
	offers := offerers(s, svc, network)
	for i := range svc.Endpoints {
		e := &svc.Endpoints[i]
		target, ok := e.Target(port)
		if !ok || e.Pod == "" || !e.Addr.IsValid() || e.Network != network || e.Tunnel != federation.TunnelMTLS || !offers(e.Cluster) {
			continue
		}
		out = append(out, PodPort{Endpoint: e, Number: port, Addr: netip.AddrPortFrom(e.Addr, target)})
	}
	return out
}

// NewGatewayPodEndpoints returns what stands behind a gateway for one pod: it.
func NewGatewayPodEndpoints(key federation.ServiceKey, p PodPort) (*Resource, error) {
	name, err := gatewayPodName(key, p)
	if err != nil {
		return nil, err
	}
	return loadAssignment(name, []eastwest.Hop{podHop(p.Endpoint, p.Addr)}, false)
}

func gatewayName(key federation.ServiceKey, port uint16) (string, error) {
	name, err := eastwest.SNI(key.Namespace, key.Name, port)
	if err != nil {
		return "", fmt.Errorf("%w: gateway for port %d of %s: %w", ErrInvalid, port, key.Hostname(), err)
	}
	return name, nil
}

func gatewayPodName(key federation.ServiceKey, p PodPort) (string, error) {
	name, err := eastwest.PodSNI(key.Namespace, key.Name, p.Number, p.Endpoint.Pod, string(p.Endpoint.Cluster))
	if err != nil {
		return "", fmt.Errorf("%w: gateway for port %d of pod %s of %s: %w", ErrInvalid, p.Number, Pod(key, p.Endpoint), key.Hostname(), err)
	}
	return name, nil
}
