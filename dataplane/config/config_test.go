package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3proto "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func pack(t testing.TB, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func socketAddress(ip string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}}}}
}

func tcpListener(t testing.TB) *listenerv3.Listener {
	return &listenerv3.Listener{Name: "l", Address: socketAddress("10.0.0.1", 80), FilterChains: []*listenerv3.FilterChain{{
		Filters: []*listenerv3.Filter{{Name: "tcp", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, &tcpproxyv3.TcpProxy{
			StatPrefix: "p", ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: "c"},
		})}}},
	}}}
}

// httpListener serves HTTP with the given stream_idle_timeout.
func httpListener(t testing.TB, idle *durationpb.Duration) *listenerv3.Listener {
	l := tcpListener(t)
	l.FilterChains[0].Filters[0].ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, &hcmv3.HttpConnectionManager{
		StatPrefix: "p", StreamIdleTimeout: idle,
		HttpFilters: []*hcmv3.HttpFilter{{Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(t, &routerv3.Router{})}}},
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			VirtualHosts: []*routev3.VirtualHost{{Name: "v", Domains: []string{"*"}}},
		}},
	})}
	return l
}

func edsCluster() *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name: "c", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}},
		CommonLbConfig:   &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{}},
	}
}

func assignmentOf(priorities ...uint32) *endpointv3.ClusterLoadAssignment {
	a := &endpointv3.ClusterLoadAssignment{ClusterName: "c"}
	for i, p := range priorities {
		a.Endpoints = append(a.Endpoints, &endpointv3.LocalityLbEndpoints{Priority: p, LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socketAddress("10.1.0.1", uint32(80+i))}},
		}}})
	}
	return a
}

// What is not implemented is refused by its path; what is wrong, with the reason.
func TestCheckRefuses(t *testing.T) {
	listener := func(change func(*listenerv3.Listener)) proto.Message { l := tcpListener(t); change(l); return l }
	cluster := func(change func(*clusterv3.Cluster)) proto.Message { c := edsCluster(); change(c); return c }
	for _, c := range []struct {
		name, typeURL string
		m             proto.Message
		want          string // "" for accepted
	}{
		{"l", TypeListener, tcpListener(t), ""},
		{"c", TypeCluster, edsCluster(), ""},
		{"c", TypeEndpoint, assignmentOf(0, 1, 1), ""},
		{"c", TypeEndpoint, assignmentOf(), ""},
		{"l", TypeListener, listener(func(l *listenerv3.Listener) { l.ReusePort = true }), "reuse_port: not implemented"},
		{"l", TypeListener, listener(func(l *listenerv3.Listener) {
			l.FilterChains[0].FilterChainMatch = &listenerv3.FilterChainMatch{AddressSuffix: "x"}
		}), "filter_chains[0].filter_chain_match.address_suffix: not implemented"},
		{"l", TypeListener, listener(func(l *listenerv3.Listener) {
			l.FilterChains[0].Filters[0].ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, &tcpproxyv3.TcpProxy{StatPrefix: "p",
				ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: "c"}, HashPolicy: []*typev3.HashPolicy{{}}})}
		}), "filter_chains[0].filters[0].typed_config.hash_policy: not implemented"},
		{"l", TypeListener, listener(func(l *listenerv3.Listener) {
			l.FilterChains[0].Filters[0].ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, &routev3.Route{})}
		}), "filter_chains[0].filters[0].typed_config"},
		{"l", TypeListener, listener(func(l *listenerv3.Listener) {
			l.FilterChains[0].Filters[0].ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: &anypb.Any{TypeUrl: "x/envoy.nobody.Knows"}}
		}), "filter_chains[0].filters[0].typed_config: message x/envoy.nobody.Knows: not implemented"},
		{"l", TypeListener, httpListener(t, durationpb.New(0)), ""},
		{"l", TypeListener, httpListener(t, durationpb.New(time.Minute)), "typed_config.stream_idle_timeout: anything but 0s: not implemented"},
		{"l", TypeListener, httpListener(t, nil), "typed_config.stream_idle_timeout: anything but 0s: not implemented"},
		{"l", TypeListener, listener(func(l *listenerv3.Listener) { l.FilterChains = nil }), "filter_chains: none"},
		{"l", TypeListener, listener(func(l *listenerv3.Listener) { l.FilterChains = append(l.FilterChains, l.FilterChains[0]) }), "filter_chains[1].filter_chain_match: the same as"},
		{"m", TypeListener, tcpListener(t), `sent as "m" calls itself "l"`},
		{"c", TypeListener, edsCluster(), "is not a envoy.config.listener.v3.Listener"},
		{"c", "type.googleapis.com/envoy.other", edsCluster(), "not implemented"},
		{"c", TypeCluster, cluster(func(c *clusterv3.Cluster) { c.LbPolicy = clusterv3.Cluster_RING_HASH }), "lb_policy: value RING_HASH: not implemented"},
		{"c", TypeCluster, cluster(func(c *clusterv3.Cluster) { c.LbPolicy = 99 }), "lb_policy: value 99"},
		{"c", TypeCluster, cluster(func(c *clusterv3.Cluster) { c.ClusterDiscoveryType = nil }), "type: STATIC"},
		{"c", TypeCluster, cluster(func(c *clusterv3.Cluster) { c.CommonLbConfig = nil }), "healthy_panic_threshold"},
		{"c", TypeCluster, cluster(func(c *clusterv3.Cluster) {
			c.OutlierDetection = &clusterv3.OutlierDetection{SplitExternalLocalOriginErrors: true}
		}), "outlier_detection.enforcing_consecutive_5xx"},
		{"c", TypeCluster, cluster(func(c *clusterv3.Cluster) { c.HealthChecks = []*corev3.HealthCheck{{}} }), "health_checks"},
		{"c", TypeCluster, cluster(func(c *clusterv3.Cluster) {
			c.UpstreamBindConfig = &corev3.BindConfig{SocketOptions: []*corev3.SocketOption{{Level: 1, Name: 2, Value: &corev3.SocketOption_IntValue{IntValue: 1}}}}
		}), "upstream_bind_config.socket_options[0]: level 1 name 2"},
		{"c", TypeCluster, cluster(func(c *clusterv3.Cluster) {
			c.TransportSocket = &corev3.TransportSocket{Name: "tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(t, &tlsv3proto.UpstreamTlsContext{
				CommonTlsContext: &tlsv3proto.CommonTlsContext{
					TlsCertificateSdsSecretConfigs: []*tlsv3proto.SdsSecretConfig{{Name: "default"}},
					ValidationContextType:          &tlsv3proto.CommonTlsContext_ValidationContextSdsSecretConfig{ValidationContextSdsSecretConfig: &tlsv3proto.SdsSecretConfig{Name: "ROOTCA"}},
				},
			})}}
		}), "empty would mean anybody"},
		{"c", TypeCluster, cluster(func(c *clusterv3.Cluster) {
			c.ProtoReflect().SetUnknown(protowire.AppendTag(nil, 4000, protowire.VarintType))
		}), "unknown"},
		{"c", TypeEndpoint, assignmentOf(0, 2), "no priority 1"},
		{"c", TypeEndpoint, assignmentOf(128), "priority"},
	} {
		err := Check(c.typeURL, c.name, c.m)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("refused: %v", err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("got %v, want %q", err, c.want)
		case strings.HasSuffix(c.want, "not implemented") && !errors.Is(err, ErrUnsupported):
			t.Errorf("%v is not ErrUnsupported", err)
		}
	}
}

// What did not change is shared by pointer; what went bad keeps its last form.
func TestBuildShares(t *testing.T) {
	l := tcpListener(t)
	l.DefaultFilterChain = proto.Clone(l.FilterChains[0]).(*listenerv3.FilterChain)
	one := State{TypeListener: {"l": l}, TypeCluster: {"c": edsCluster()}, TypeEndpoint: {"c": assignmentOf(0)}}
	first, err := Build(nil, one)
	if err != nil {
		t.Fatal(err)
	}
	changed := proto.Clone(l).(*listenerv3.Listener)
	changed.ListenerFiltersTimeout = durationpb.New(time.Second)
	changed.FilterChains[0].FilterChainMatch = &listenerv3.FilterChainMatch{DestinationPort: wrapperspb.UInt32(1)}
	second, err := Build(first, State{TypeListener: {"l": changed}, TypeCluster: {"c": edsCluster()}, TypeEndpoint: {"c": assignmentOf(0, 1)}})
	if err != nil {
		t.Fatal(err)
	}
	if second.Clusters["c"] != first.Clusters["c"] || second.Assignments["c"] == first.Assignments["c"] || second.Listeners["l"] == first.Listeners["l"] {
		t.Error("wrong parts are shared")
	}
	if second.Listeners["l"].Default != first.Listeners["l"].Default || second.Listeners["l"].Chains[0] == first.Listeners["l"].Chains[0] {
		t.Error("wrong chains are shared")
	}
	bad := tcpListener(t)
	bad.FilterChains = nil
	third, err := Build(second, State{TypeListener: {"l": bad}})
	if err == nil || third.Listeners["l"] != second.Listeners["l"] || len(third.Clusters) != 0 {
		t.Errorf("bad listener: %v %v", err, third)
	}
}

// Whatever bytes come as a resource, checking ends without a panic, and what is
// accepted can be built.
func FuzzCheck(f *testing.F) {
	entry := filtersOf(f, setState(stateCluster, inline(portFormat)), rbac(func(*rbacfilterv3.RBAC, *rbacv3.Policy) {}))
	entry.FilterChains[0].FilterChainMatch = &listenerv3.FilterChainMatch{SourcePrefixRanges: []*corev3.CidrRange{cidr("10.0.0.0", 8)}}
	for _, m := range []proto.Message{tcpListener(f), entry, edsCluster(), assignmentOf(0, 1)} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("type.googleapis.com/"+string(m.ProtoReflect().Descriptor().FullName()), b)
	}
	f.Fuzz(func(t *testing.T, typeURL string, data []byte) {
		var m proto.Message
		var name string
		switch typeURL {
		case TypeListener:
			m = new(listenerv3.Listener)
		case TypeCluster:
			m = new(clusterv3.Cluster)
		case TypeEndpoint:
			m = new(endpointv3.ClusterLoadAssignment)
		default:
			m = new(routev3.RouteConfiguration)
			typeURL = TypeRoute
		}
		if proto.Unmarshal(data, m) != nil {
			return
		}
		if a, ok := m.(*endpointv3.ClusterLoadAssignment); ok {
			name = a.GetClusterName()
		} else {
			name = m.(interface{ GetName() string }).GetName()
		}
		if Check(typeURL, name, m) != nil {
			return
		}
		if _, err := Build(nil, State{typeURL: {name: m}}); err != nil {
			t.Errorf("accepted, but: %v", err)
		}
	})
}
