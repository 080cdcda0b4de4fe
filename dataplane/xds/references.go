package xds

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
)

// references returns the load assignments (of an xds cluster) or the route
// configurations (of a listener) that m needs.
func references(m proto.Message) []string {
	switch m := m.(type) {
	case *clusterv3.Cluster:
		return assignmentOf(m)
	case *listenerv3.Listener:
		return routesOf(m)
	}
	return nil
}

func assignmentOf(c *clusterv3.Cluster) []string {
	if c.GetType() != clusterv3.Cluster_EDS {
		return nil
	}
	if name := c.GetEdsClusterConfig().GetServiceName(); name != "" {
		return []string{name}
	}
	return []string{c.GetName()}
}

func routesOf(l *listenerv3.Listener) []string {
	var names []string
	chains := l.GetFilterChains()
	if d := l.GetDefaultFilterChain(); d != nil {
		chains = append(chains[:len(chains):len(chains)], d)
	}
	for _, chain := range chains {
		for _, f := range chain.GetFilters() {
			hcm := new(hcmv3.HttpConnectionManager)
			if f.GetTypedConfig().MessageIs(hcm) && f.GetTypedConfig().UnmarshalTo(hcm) == nil && hcm.GetRds() != nil {
				names = append(names, hcm.GetRds().GetRouteConfigName())
			}
		}
	}
	return names
}

// referred is the type that resources of typeURL refer to by name, or "".
func referred(typeURL string) string {
	switch typeURL {
	case TypeCluster:
		return TypeEndpoint
	case TypeListener:
		return TypeRoute
	}
	return ""
}
