package resources

import (
	"net/netip"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/trust"
)

// way is how connections for one port of a pod, or for all that have none of
// their own, come to the application.
type way struct {
	port     uint32 // 0 for all others
	target   string // xds cluster
	protocol federation.Protocol
	mode     federation.MTLSMode
	from     []federation.ClusterName // whose workloads may call; nil means any
	inside   []netip.Prefix           // from where the rest may; nil means from anywhere
	refused  trust.ID                 // who may not; zero where nobody
}

func (v InboundView) way(p InboundPort) way {
	w := way{port: uint32(p.Port), target: inboundCluster(p.Port), protocol: p.Protocol, mode: p.Mode, from: p.From}
	if !p.Declared {
		w.target = InboundName
	}
	if p.From != nil {
		// No chain at all would leave the port to the chains of all others.
		if w.inside = v.Inside; len(w.inside) == 0 {
			w.inside = loopback()
		}
	}
	if p.NoEntry {
		w.refused = v.Entry
	}
	return w
}

// chains returns the filter chains of w.
func (w way) chains() []*listenerv3.FilterChain {
	switch w.mode {
	case federation.MTLSStrict:
		chain := w.mtls()
		chain.FilterChainMatch = orNone(w.match())
		return []*listenerv3.FilterChain{chain}
	case federation.MTLSDisable:
		return w.plaintext()
	case federation.MTLSPermissive:
	}
	tls := w.mtls()
	tls.FilterChainMatch = w.match()
	tls.FilterChainMatch.TransportProtocol = "tls"
	tls.FilterChainMatch.ApplicationProtocols = []string{api.ALPN}
	return append([]*listenerv3.FilterChain{tls, w.foreignTLS()}, w.plaintext()...)
}

// mtls returns the chain for the mesh's own mTLS, without its match.
func (w way) mtls() *listenerv3.FilterChain {
	http := w.protocol == federation.ProtocolHTTP || w.protocol == federation.ProtocolHTTP2
	chain := &listenerv3.FilterChain{Filters: w.filters(http, true), TransportSocket: serverTLS(w.from)}
	if !w.refused.IsZero() {
		chain.Filters = append([]*listenerv3.Filter{refuse(w.target, w.refused)}, chain.Filters...)
	}
	return chain
}

// foreignTLS takes TLS that is the application's own. Without it such a
// connection would match nothing: Envoy, once it has found chains for "tls",
// does not come back to those without a transport protocol.
func (w way) foreignTLS() *listenerv3.FilterChain {
	match := w.near()
	match.TransportProtocol = "tls"
	return &listenerv3.FilterChain{FilterChainMatch: match, Filters: w.filters(false, false)}
}

// plaintext returns the chain for plaintext, and before it, where the protocol
// must be found out, that for HTTP.
func (w way) plaintext() []*listenerv3.FilterChain {
	http := w.protocol == federation.ProtocolHTTP || w.protocol == federation.ProtocolHTTP2
	out := []*listenerv3.FilterChain{{FilterChainMatch: orNone(w.near()), Filters: w.filters(http, false)}}
	if w.protocol == federation.ProtocolAuto {
		match := w.near()
		match.ApplicationProtocols = httpProtocols()
		out = append([]*listenerv3.FilterChain{{FilterChainMatch: match, Filters: w.filters(true, false)}}, out...)
	}
	return out
}

func (w way) filters(http, mtls bool) []*listenerv3.Filter {
	if http {
		return []*listenerv3.Filter{inboundHTTP(w.target, mtls)}
	}
	return []*listenerv3.Filter{tcpProxy(w.target, w.target)}
}

// match matches w's port.
func (w way) match() *listenerv3.FilterChainMatch {
	if w.port == 0 {
		return new(listenerv3.FilterChainMatch)
	}
	return &listenerv3.FilterChainMatch{DestinationPort: u32(w.port)}
}

// near matches w's port for callers who do not prove their cluster.
func (w way) near() *listenerv3.FilterChainMatch {
	m := w.match()
	m.SourcePrefixRanges = cidrs(w.inside)
	return m
}

// orNone returns nil for a match of everything.
func orNone(m *listenerv3.FilterChainMatch) *listenerv3.FilterChainMatch {
	if m.DestinationPort == nil && len(m.SourcePrefixRanges) == 0 {
		return nil
	}
	return m
}
