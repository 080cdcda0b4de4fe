package resources

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/eastwest"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/trust"
)

// Listeners of the east-west gateway of a primary, for the remotes that it
// serves: their proxies' way to isthmusd, and their API servers' to its webhook.
const (
	DiscoveryName = "discovery" // on api.PortDiscovery
	WebhookName   = "webhook"   // on api.PortWebhook
)

// NewRemotes returns what the gateway of a primary has beside its own things: for
// isthmusd's two ports a listener, an xds cluster and a load assignment. A remote's
// proxies call isthmusd by their own cluster's name, which the listener wants
// exactly; an API server calls the webhook by its Service's. Both sessions end
// in isthmusd, the gateway decrypts neither; no other name and no plaintext
// passes. No API server offers a mesh ALPN, so none is asked for.
func NewRemotes(s *federation.Snapshot, primary federation.ClusterName, served []federation.ClusterName) ([]*Resource, error) {
	var names []string
	for _, name := range served {
		names = append(names, trust.ClusterDNS(string(name)))
	}
	slices.Sort(names)
	var out []*Resource
	for _, way := range []struct {
		name    string
		port    uint16   // of the gateway, and of isthmusd
		servers []string // names
	}{
		{DiscoveryName, api.PortDiscovery, names},
		{WebhookName, api.PortWebhook, []string{api.ControlPlaneName + "." + api.SystemNamespace + ".svc"}},
	} {
		target := "isthmusd|" + strconv.Itoa(int(way.port))
		cluster, err := passOn(target)
		if err != nil {
			return nil, err
		}
		endpoints, err := loadAssignment(target, controlPlanes(s.Cluster(primary), way.port), false)
		if err != nil {
			return nil, err
		}
		listener, err := passServerNames(way.name, way.port, way.servers, target)
		if err != nil {
			return nil, err
		}
		out = append(out, cluster, endpoints, listener)
	}
	return out, nil
}

// controlPlanes leads to isthmusd's pods of c, which may be nil.
func controlPlanes(c *federation.Cluster, port uint16) []eastwest.Hop {
	var out []eastwest.Hop
	if c != nil {
		for _, a := range c.ControlPlanes {
			out = append(out, eastwest.Hop{Addr: netip.AddrPortFrom(a, port), Cluster: c.Name, Network: c.Network, Weight: 1})
		}
	}
	return out
}

func passServerNames(name string, port uint16, servers []string, xdsCluster string) (*Resource, error) {
	l := &listenerv3.Listener{
		Name:                   name,
		ListenerFilters:        []*listenerv3.ListenerFilter{tlsInspector()},
		ListenerFiltersTimeout: seconds(5 * time.Second),
		FilterChains: []*listenerv3.FilterChain{{
			FilterChainMatch: &listenerv3.FilterChainMatch{ServerNames: servers, TransportProtocol: "tls"},
			Filters:          []*listenerv3.Filter{tcpProxy(name, xdsCluster)},
		}},
	}
	l.Address, l.AdditionalAddresses = everywhere(port)
	return seal(Listener, name, l)
}
