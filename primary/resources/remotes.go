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

// webhookServicePort is the port of isthmusd's Service that leads to its webhook.
const webhookServicePort = 443

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
	svc := s.Service(federation.ServiceKey{Cluster: primary, Namespace: api.SystemNamespace, Name: api.ControlPlaneName})
	var out []*Resource
	for _, way := range []struct {
		name    string
		port    uint16   // of the gateway, and of isthmusd
		service uint16   // of isthmusd's Service
		servers []string // names
	}{
		{DiscoveryName, api.PortDiscovery, api.PortDiscovery, names},
		{WebhookName, api.PortWebhook, webhookServicePort, []string{api.ControlPlaneName + "." + api.SystemNamespace + ".svc"}},
	} {
		target := "isthmusd|" + strconv.Itoa(int(way.port))
		cluster, err := passOn(target)
		if err != nil {
			return nil, err
		}
		endpoints, err := loadAssignment(target, controlPlanes(svc, way.service), false)
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

// controlPlanes are the ready pods of isthmusd; those that end count while no
// other is there.
func controlPlanes(svc *federation.Service, port uint16) []eastwest.Hop {
	if svc == nil {
		return nil
	}
	byHealth := map[federation.Health][]eastwest.Hop{}
	for i := range svc.Endpoints {
		e := &svc.Endpoints[i]
		if target, ok := e.Target(port); ok && e.Addr.IsValid() {
			byHealth[e.Health] = append(byHealth[e.Health], podHop(e, netip.AddrPortFrom(e.Addr, target)))
		}
	}
	if ready := byHealth[federation.Ready]; len(ready) > 0 {
		return ready
	}
	return byHealth[federation.Terminating]
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
