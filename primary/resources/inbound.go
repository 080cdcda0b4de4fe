package resources

import (
	"cmp"
	"fmt"
	"net/netip"
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
	"github.com/isthmus-mesh/isthmus/trust"
)

// InboundPort is a port of a pod as its inbound listener needs it.
type InboundPort struct {
	Port     uint16
	Protocol federation.Protocol
	Mode     federation.MTLSMode
	Declared bool // some service leads to it; else it has only a mode of its own
	// From names the clusters whose workloads may call; nil means any.
	From []federation.ClusterName
	// NoEntry says that entry gateways may not call.
	NoEntry bool
}

// InboundView is everything about a workload that may change its inbound
// listener: replicas of a Deployment share one.
type InboundView struct {
	Mode  federation.MTLSMode // of all ports that are not listed
	Ports []InboundPort       // sorted by port, each once
	// Inside is from where ports with From take what is not the mesh's mTLS; nil
	// where no port has.
	Inside []netip.Prefix
	// Entry is the identity of entry gateways; zero where no port has NoEntry.
	Entry trust.ID
}

// Key returns v as a comparable value; equal keys mean equal views.
func (v InboundView) Key() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %v %v", v.Mode, v.Entry, v.Inside)
	for _, p := range v.Ports {
		fmt.Fprintf(&b, " %d/%d/%d/%t/%t", p.Port, p.Protocol, p.Mode, p.Declared, p.NoEntry)
		if p.From != nil {
			fmt.Fprintf(&b, "/%q", p.From)
		}
	}
	return b.String()
}

// InboundOf returns the view of w, whose cluster is c; nil where it is unknown.
func InboundOf(w *federation.Workload, c *federation.Cluster) InboundView {
	v := InboundView{Mode: w.MTLS}
	ports := map[uint16]InboundPort{}
	for _, p := range w.Inbound {
		from := p.From
		if from != nil && len(from) == 0 {
			from = []federation.ClusterName{w.Key.Cluster} // no names would let everybody in
		}
		ports[p.Port] = InboundPort{Port: p.Port, Protocol: p.Protocol, Mode: w.MTLS, Declared: true, From: from, NoEntry: p.NoEntry}
		if from != nil && c != nil {
			v.Inside = c.Inside
		}
		if p.NoEntry {
			v.Entry = entryIdentity(w.Account.Domain())
		}
	}
	for _, m := range w.PortMTLS {
		p, ok := ports[m.Port]
		if !ok {
			p = InboundPort{Port: m.Port, Protocol: federation.ProtocolTCP}
		}
		p.Mode = m.Mode
		ports[m.Port] = p
	}
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
		l.FilterChains = append(l.FilterChains, v.way(p).chains()...)
	}
	l.FilterChains = append(l.FilterChains, way{target: InboundName, protocol: federation.ProtocolTCP, mode: v.Mode}.chains()...)
	l.FilterChains = apart(l.FilterChains, maxInboundChains)
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
