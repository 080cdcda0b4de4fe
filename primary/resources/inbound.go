package resources

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
)

// InboundPort is a port of a pod as its inbound listener needs it.
type InboundPort struct {
	Port     uint16
	Protocol federation.Protocol
	Mode     federation.MTLSMode
	Declared bool // some service leads to it; else it has only a mode of its own
}

// InboundView is everything about a workload that may change its inbound
// listener: replicas of a Deployment share one.
type InboundView struct {
	Mode  federation.MTLSMode // of all ports that are not listed
	Ports []InboundPort       // sorted by port, each once
}

// Key returns v as a comparable value; equal keys mean equal views.
func (v InboundView) Key() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d", v.Mode)
	for _, p := range v.Ports {
		fmt.Fprintf(&b, " %d/%d/%d/%t", p.Port, p.Protocol, p.Mode, p.Declared)
	}
	return b.String()
}

// InboundOf returns the view of w.
func InboundOf(w *federation.Workload) InboundView {
	ports := map[uint16]InboundPort{}
	for _, p := range w.Inbound {
		ports[p.Port] = InboundPort{Port: p.Port, Protocol: p.Protocol, Mode: w.MTLS, Declared: true}
	}
	for _, m := range w.PortMTLS {
		p, ok := ports[m.Port]
		if !ok {
			p = InboundPort{Port: m.Port, Protocol: federation.ProtocolTCP}
		}
		p.Mode = m.Mode
		ports[m.Port] = p
	}
	v := InboundView{Mode: w.MTLS}
	for _, p := range ports {
		v.Ports = append(v.Ports, p)
	}
	slices.SortFunc(v.Ports, func(a, b InboundPort) int { return cmp.Compare(a.Port, b.Port) })
	return v
}

// NewInbound returns the listener that all connections into a pod come to.
func NewInbound(v InboundView) (*Resource, error) {
	l := &listenerv3.Listener{
		Name:                             InboundName,
		TrafficDirection:                 corev3.TrafficDirection_INBOUND,
		ListenerFilters:                  inboundListenerFilters(v),
		ListenerFiltersTimeout:           seconds(time.Second),
		ContinueOnListenerFiltersTimeout: true,
	}
	l.Address, l.AdditionalAddresses = everywhere(api.PortInbound)
	for _, p := range v.Ports {
		target := inboundCluster(p.Port)
		if !p.Declared {
			target = InboundName
		}
		l.FilterChains = append(l.FilterChains, inboundChains(uint32(p.Port), target, p.Protocol, p.Mode)...)
	}
	l.FilterChains = append(l.FilterChains, inboundChains(0, InboundName, federation.ProtocolTCP, v.Mode)...)
	return seal(Listener, InboundName, l)
}

// inboundListenerFilters looks into the first bytes only where the answer
// decides something.
func inboundListenerFilters(v InboundView) []*listenerv3.ListenerFilter {
	filters := []*listenerv3.ListenerFilter{originalDst()}
	if slices.ContainsFunc(v.Ports, func(p InboundPort) bool { return p.Mode != federation.MTLSStrict }) || v.Mode != federation.MTLSStrict {
		filters = append(filters, tlsInspector())
	}
	if slices.ContainsFunc(v.Ports, func(p InboundPort) bool {
		return p.Mode != federation.MTLSStrict && p.Protocol == federation.ProtocolAuto
	}) {
		filters = append(filters, httpInspector())
	}
	return filters
}

// inboundChains returns the filter chains of a port, or of all others where
// port is 0.
func inboundChains(port uint32, target string, protocol federation.Protocol, mode federation.MTLSMode) []*listenerv3.FilterChain {
	tls := inboundChain(port, target, protocol == federation.ProtocolHTTP || protocol == federation.ProtocolHTTP2, true)
	switch mode {
	case federation.MTLSStrict:
		return []*listenerv3.FilterChain{tls}
	case federation.MTLSDisable:
		return plaintextChains(port, target, protocol)
	case federation.MTLSPermissive:
	}
	tls.FilterChainMatch = matching(port)
	tls.FilterChainMatch.TransportProtocol = "tls"
	tls.FilterChainMatch.ApplicationProtocols = []string{api.ALPN}
	return append([]*listenerv3.FilterChain{tls, foreignTLS(port, target)}, plaintextChains(port, target, protocol)...)
}

// foreignTLS takes TLS that is the application's own. Without it such a
// connection would match nothing: Envoy, once it has found chains for "tls",
// does not come back to those without a transport protocol.
func foreignTLS(port uint32, target string) *listenerv3.FilterChain {
	chain := inboundChain(port, target, false, false)
	chain.FilterChainMatch = matching(port)
	chain.FilterChainMatch.TransportProtocol = "tls"
	return chain
}

// plaintextChains returns the chain for plaintext, and before it, where the
// protocol must be found out, that for HTTP.
func plaintextChains(port uint32, target string, protocol federation.Protocol) []*listenerv3.FilterChain {
	switch protocol {
	case federation.ProtocolHTTP, federation.ProtocolHTTP2:
		return []*listenerv3.FilterChain{inboundChain(port, target, true, false)}
	case federation.ProtocolAuto:
		http := inboundChain(port, target, true, false)
		http.FilterChainMatch = matching(port)
		http.FilterChainMatch.ApplicationProtocols = httpProtocols()
		return []*listenerv3.FilterChain{http, inboundChain(port, target, false, false)}
	case federation.ProtocolTCP, federation.ProtocolUDP:
	}
	return []*listenerv3.FilterChain{inboundChain(port, target, false, false)}
}

func inboundChain(port uint32, target string, http, mtls bool) *listenerv3.FilterChain {
	chain := &listenerv3.FilterChain{Filters: []*listenerv3.Filter{tcpProxy(target, target)}}
	if port != 0 {
		chain.FilterChainMatch = matching(port)
	}
	if http {
		chain.Filters = []*listenerv3.Filter{inboundHTTP(target, mtls)}
	}
	if mtls {
		chain.TransportSocket = serverTLS()
	}
	return chain
}

// matching returns a match of the destination port, and of nothing for 0.
func matching(port uint32) *listenerv3.FilterChainMatch {
	if port == 0 {
		return new(listenerv3.FilterChainMatch)
	}
	return &listenerv3.FilterChainMatch{DestinationPort: u32(port)}
}

// NewInboundCluster returns the xds cluster to the application's own port; the
// name InboundName stands for port 0, all ports that no service leads to.
func NewInboundCluster(port uint16, http bool) (*Resource, error) {
	name := InboundName
	if port != 0 {
		name = inboundCluster(port)
	}
	c := &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
		LbPolicy:             clusterv3.Cluster_CLUSTER_PROVIDED,
		ConnectTimeout:       seconds(connectTimeout),
		UpstreamBindConfig:   bindConfig(markOption(api.MarkInbound)),
	}
	if http {
		options := new(upstreamhttpv3.HttpProtocolOptions)
		asDownstream(options, new(corev3.Http2ProtocolOptions))
		c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptionsName: pack(options)}
	}
	return seal(Cluster, name, c)
}
