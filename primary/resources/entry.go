package resources

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	filterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	setstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/eastwest"
	"github.com/isthmus-mesh/isthmus/federation"
)

// entryLife is how long a connection through an entry gateway may live. After it
// the port of a service that is gone can be given to another.
const entryLife = 24 * time.Hour

// NewEntry returns the listener of the entry gateways of a cluster: which xds
// cluster a connection goes to is the port that it came to. It is open to inside,
// except to shutOut, and to nobody where inside is empty.
func NewEntry(inside []netip.Prefix, shutOut []netip.Addr) (*Resource, error) {
	refused := make([]netip.Prefix, 0, len(shutOut))
	for _, a := range shutOut {
		refused = append(refused, netip.PrefixFrom(a, a.BitLen()))
	}
	// Envoy refuses a range that stands in two chains. Of two that hold an address
	// the longer decides.
	inside = slices.DeleteFunc(slices.Clone(inside), func(p netip.Prefix) bool { return slices.Contains(refused, p) })
	if len(inside)+len(refused) == 0 {
		refused = loopback() // a listener without chains is refused too
	}
	l := &listenerv3.Listener{Name: EntryName, ListenerFilters: []*listenerv3.ListenerFilter{originalDst()}}
	l.Address, l.AdditionalAddresses = everywhere(api.PortEntry)
	if len(refused) > 0 {
		l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{
			FilterChainMatch: from(refused),
			Filters:          []*listenerv3.Filter{tcpProxy(EntryName, blackholeName)},
		})
	}
	if len(inside) > 0 {
		open := &listenerv3.FilterChain{FilterChainMatch: from(inside), Filters: []*listenerv3.Filter{byPort(), entryProxy()}}
		l.FilterChains = append(l.FilterChains, apart([]*listenerv3.FilterChain{open}, maxEntryChains)...)
	}
	return seal(Listener, EntryName, l)
}

// byPort makes tcp_proxy take the xds cluster of the connection's port.
func byPort() *listenerv3.Filter {
	return networkFilter("envoy.filters.network.set_filter_state", &setstatev3.Config{
		OnNewConnection: []*filterstatev3.FilterStateValue{{
			Key: &filterstatev3.FilterStateValue_ObjectKey{ObjectKey: "envoy.tcp_proxy.cluster"},
			Value: &filterstatev3.FilterStateValue_FormatString{FormatString: &corev3.SubstitutionFormatString{
				Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
					Specifier: &corev3.DataSource_InlineString{InlineString: EntryPrefix + "%DOWNSTREAM_LOCAL_PORT%"},
				}},
			}},
		}},
	})
}

func entryProxy() *listenerv3.Filter {
	t := tcpTo(EntryName, blackholeName)
	t.MaxDownstreamConnectionDuration = seconds(entryLife)
	return networkFilter(tcpProxyName, t)
}

// NewEntryCluster returns the xds cluster of a port of the entry gateway that
// leads to port of svc. What the port speaks does not matter there.
func NewEntryCluster(svc *federation.Service, port, entry uint16) (*Resource, error) {
	name := entryCluster(entry)
	assignment := OutboundKey{Service: svc.Key, Port: port}.String()
	c := outboundCluster(name, assignment, svc, federation.Port{Number: port, Protocol: federation.ProtocolTCP}, false)
	c.UpstreamBindConfig = bindConfig(userTimeoutOption())
	if err := addSockets(c, true, svc.Accounts, func() (string, error) {
		return eastwest.SNI(svc.Key.Namespace, svc.Key.Name, port)
	}); err != nil {
		return nil, fmt.Errorf("entry port %d of %s: %w", entry, svc.Key.Hostname(), err)
	}
	return seal(Cluster, name, c)
}
