package cache_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	setstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/primary/cache"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// words says in the words of the domain what a proxy is sent, a line per fact.
func words(t *testing.T, state *cache.State) string {
	t.Helper()
	var b strings.Builder
	for typ := range resources.Type(resources.TypeCount) {
		all := maps.Clone(state.Shared.All(typ))
		if all == nil {
			all = map[string]*resources.Resource{}
		}
		maps.Copy(all, state.Own.All(typ))
		for _, name := range slices.Sorted(maps.Keys(all)) {
			m, err := all[name].Body.UnmarshalNew()
			if err != nil {
				t.Fatal(err)
			}
			switch m := m.(type) {
			case *clusterv3.Cluster:
				fmt.Fprintf(&b, "cds %s %s%s", name, m.GetType(), identities(t, m))
				if eds := m.GetEdsClusterConfig().GetServiceName(); eds != "" && eds != name {
					fmt.Fprintf(&b, " eds=%s", eds)
				}
				b.WriteByte('\n')
			case *endpointv3.ClusterLoadAssignment:
				assignment(&b, name, m)
			case *listenerv3.Listener:
				listener(t, &b, name, m)
			case *routev3.RouteConfiguration:
				fmt.Fprintf(&b, "rds %s -> %s\n", name, m.VirtualHosts[0].Routes[0].GetRoute().GetCluster())
			}
		}
	}
	return b.String()
}

func identities(t *testing.T, c *clusterv3.Cluster) (out string) {
	for _, m := range c.TransportSocketMatches {
		var tls tlsv3.UpstreamTlsContext
		if m.Name != "mtls" {
			continue
		}
		if err := m.TransportSocket.GetTypedConfig().UnmarshalTo(&tls); err != nil {
			t.Fatal(err)
		}
		out += " sni=" + tls.Sni
		for _, san := range tls.CommonTlsContext.GetCombinedValidationContext().DefaultValidationContext.MatchTypedSubjectAltNames {
			out += " expects=" + san.Matcher.GetExact()
		}
	}
	return out
}

// callers says who may call, where not everybody may.
func callers(t *testing.T, socket *anypb.Any) (out string) {
	var tls tlsv3.DownstreamTlsContext
	if err := socket.UnmarshalTo(&tls); err != nil {
		t.Fatal(err)
	}
	for _, san := range tls.CommonTlsContext.GetCombinedValidationContext().GetDefaultValidationContext().GetMatchTypedSubjectAltNames() {
		out += fmt.Sprintf(" caller=%s:%s", strings.ToLower(san.SanType.String()), san.Matcher.GetExact())
	}
	return out
}

func assignment(b *strings.Builder, name string, a *endpointv3.ClusterLoadAssignment) {
	if len(a.Endpoints) == 0 {
		fmt.Fprintf(b, "eds %s empty\n", name)
	}
	for _, l := range a.Endpoints {
		for _, e := range l.LbEndpoints {
			data := e.Metadata.FilterMetadata
			fmt.Fprintf(b, "eds %s priority=%d %s weight=%d cluster=%s via=%s", name, l.Priority, addr(e.GetEndpoint().Address),
				e.LoadBalancingWeight.Value, l.Locality.SubZone, data["isthmus"].Fields["via"].GetStringValue())
			if data["envoy.transport_socket_match"] != nil {
				b.WriteString(" mtls")
			}
			b.WriteByte('\n')
		}
	}
}

func addr(a *corev3.Address) string {
	return fmt.Sprintf("%s:%d", a.GetSocketAddress().Address, a.GetSocketAddress().GetPortValue())
}

func listener(t *testing.T, b *strings.Builder, name string, l *listenerv3.Listener) {
	fmt.Fprintf(b, "lds %s %s", name, addr(l.Address))
	for _, a := range l.AdditionalAddresses {
		fmt.Fprintf(b, " %s", addr(a.Address))
	}
	b.WriteByte('\n')
	for _, c := range l.FilterChains {
		chain(t, b, "  chain", c)
	}
	if l.DefaultFilterChain != nil {
		chain(t, b, "  default", l.DefaultFilterChain)
	}
}

func chain(t *testing.T, b *strings.Builder, kind string, c *listenerv3.FilterChain) {
	b.WriteString(kind)
	if m := c.FilterChainMatch; m != nil {
		if m.DestinationPort != nil {
			fmt.Fprintf(b, " port=%d", m.DestinationPort.Value)
		}
		if len(m.ServerNames) > 0 {
			fmt.Fprintf(b, " sni=%s", strings.Join(m.ServerNames, ","))
		}
		if m.TransportProtocol != "" {
			fmt.Fprintf(b, " transport=%s", m.TransportProtocol)
		}
		if len(m.ApplicationProtocols) > 0 {
			fmt.Fprintf(b, " alpn=%s", strings.Join(m.ApplicationProtocols, ","))
		}
		for _, r := range m.SourcePrefixRanges {
			fmt.Fprintf(b, " from=%s/%d", r.AddressPrefix, r.PrefixLen.Value)
		}
	}
	if c.TransportSocket != nil {
		b.WriteString(" terminates-mtls" + callers(t, c.TransportSocket.GetTypedConfig()))
	}
	for _, f := range c.Filters {
		m, err := f.GetTypedConfig().UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case *tcpv3.TcpProxy:
			fmt.Fprintf(b, " tcp -> %s", m.GetCluster())
			if d := m.GetMaxDownstreamConnectionDuration(); d != nil {
				fmt.Fprintf(b, " for=%v", d.AsDuration())
			}
		case *rbacfilterv3.RBAC:
			p := m.Rules.Policies["callers"].Principals[0].GetNotId()
			fmt.Fprintf(b, " refuses=%s", p.GetAuthenticated().GetPrincipalName().GetExact())
		case *setstatev3.Config:
			v := m.OnNewConnection[0]
			fmt.Fprintf(b, " %s=%s", v.GetObjectKey(), v.GetFormatString().GetTextFormatSource().GetInlineString())
		case *hcmv3.HttpConnectionManager:
			if m.GetRds() != nil {
				fmt.Fprintf(b, " http rds=%s", m.GetRds().RouteConfigName)
			} else {
				fmt.Fprintf(b, " http -> %s", m.GetRouteConfig().VirtualHosts[0].Routes[0].GetRoute().GetCluster())
			}
			fmt.Fprintf(b, " xfcc=%s", strings.ToLower(m.ForwardClientCertDetails.String()))
		default:
			fmt.Fprintf(b, " %s", strings.TrimPrefix(f.Name, "envoy.filters.network."))
		}
	}
	b.WriteByte('\n')
}
