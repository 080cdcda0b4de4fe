package resources

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
)

// sniffTimeout is how long an outbound listener waits for a client's first
// bytes where nobody said what the port speaks; after it, it is TCP.
const sniffTimeout = 100 * time.Millisecond

// NewListener returns the listener of an outbound port at addrs, which must not
// be empty; the first is its address. It is reached from the listener
// OutboundName by the connection's original destination.
func NewListener(key OutboundKey, protocol federation.Protocol, addrs []netip.AddrPort) (*Resource, error) {
	name := key.String()
	for _, a := range addrs {
		if !a.IsValid() || a.Port() == 0 || a.Addr().IsUnspecified() {
			return nil, fmt.Errorf("%w: listener %s at %v", ErrInvalid, name, a)
		}
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%w: listener %s has no address", ErrInvalid, name)
	}
	l := &listenerv3.Listener{
		Name:                name,
		Address:             address(addrs[0]),
		AdditionalAddresses: additional(addrs[1:]),
		BindToPort:          boolean(false),
		TrafficDirection:    corev3.TrafficDirection_OUTBOUND,
	}
	serveOutbound(l, name, protocol)
	return seal(Listener, name, l)
}

// serveOutbound gives l the filter chains for what the port speaks.
func serveOutbound(l *listenerv3.Listener, name string, protocol federation.Protocol) {
	tcp := &listenerv3.FilterChain{Filters: []*listenerv3.Filter{tcpProxy(name, name)}}
	http := &listenerv3.FilterChain{Filters: []*listenerv3.Filter{outboundHTTP(name)}}
	switch protocol {
	case federation.ProtocolHTTP, federation.ProtocolHTTP2:
		l.FilterChains = []*listenerv3.FilterChain{http}
	case federation.ProtocolTCP, federation.ProtocolUDP:
		l.FilterChains = []*listenerv3.FilterChain{tcp}
	case federation.ProtocolAuto:
		http.FilterChainMatch = &listenerv3.FilterChainMatch{ApplicationProtocols: httpProtocols()}
		l.FilterChains = []*listenerv3.FilterChain{http}
		l.DefaultFilterChain = tcp
		l.ListenerFilters = []*listenerv3.ListenerFilter{httpInspector()}
		l.ListenerFiltersTimeout = seconds(sniffTimeout)
		l.ContinueOnListenerFiltersTimeout = true
	}
}

func additional(addrs []netip.AddrPort) []*listenerv3.AdditionalAddress {
	var out []*listenerv3.AdditionalAddress
	for _, a := range addrs {
		out = append(out, &listenerv3.AdditionalAddress{Address: address(a)})
	}
	return out
}

// everywhere returns both families' wildcard address for a port of our own.
func everywhere(port uint16) (*corev3.Address, []*listenerv3.AdditionalAddress) {
	v6 := netip.AddrPortFrom(netip.IPv6Unspecified(), port)
	return address(netip.AddrPortFrom(netip.IPv4Unspecified(), port)), additional([]netip.AddrPort{v6})
}

// NewOutbound returns the listener that all connections out of a pod come to.
func NewOutbound() (*Resource, error) {
	l := &listenerv3.Listener{
		Name:             OutboundName,
		TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		UseOriginalDst:   boolean(true),
		FilterChains: []*listenerv3.FilterChain{{
			Filters: []*listenerv3.Filter{tcpProxy(PassthroughName, PassthroughName)},
		}},
	}
	l.Address, l.AdditionalAddresses = everywhere(api.PortOutbound)
	return seal(Listener, OutboundName, l)
}

// ListenerAddrs returns where proxies of cluster call port of svc, sorted.
func ListenerAddrs(svc *federation.Service, port uint16, cluster federation.ClusterName) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range svc.VIPsIn(cluster) {
		out = append(out, netip.AddrPortFrom(a, port))
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}
