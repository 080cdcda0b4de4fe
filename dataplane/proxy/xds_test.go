package proxy_test

import (
	"net/netip"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	directv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	sniclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_cluster/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	prevhostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	prevpriov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The messages below are those of docs/xds.md, written by hand.

type state = map[string]map[string]proto.Message

func newState(ms ...proto.Message) state {
	s := state{}
	for _, m := range ms {
		url := "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName())
		if s[url] == nil {
			s[url] = map[string]proto.Message{}
		}
		s[url][nameOf(m)] = m
	}
	return s
}

// with returns a copy of s in which ms replace what has their names.
func with(s state, ms ...proto.Message) state {
	out := newState(ms...)
	for url, byName := range s {
		for name, m := range byName {
			if out[url] == nil {
				out[url] = map[string]proto.Message{}
			}
			if out[url][name] == nil {
				out[url][name] = m
			}
		}
	}
	return out
}

func nameOf(m proto.Message) string {
	if a, ok := m.(*endpointv3.ClusterLoadAssignment); ok {
		return a.GetClusterName()
	}
	return m.(interface{ GetName() string }).GetName()
}

func anyOf(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic(err)
	}
	return a
}

func u32(n uint32) *wrapperspb.UInt32Value     { return wrapperspb.UInt32(n) }
func dur(d time.Duration) *durationpb.Duration { return durationpb.New(d) }
func yes() *wrapperspb.BoolValue               { return wrapperspb.Bool(true) }
func strs(kv map[string]any) *structpb.Struct  { s, _ := structpb.NewStruct(kv); return s }
func listenerFilter(name string, m proto.Message) *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{Name: name, ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: anyOf(m)}}
}

func filter(name string, m proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: anyOf(m)}}
}

func addr(ap netip.AddrPort) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: ap.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(ap.Port())},
	}}}
}

func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
}

func sds(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
			ApiType: corev3.ApiConfigSource_GRPC, TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: "sds-grpc"}}}},
		}},
	}}
}

func commonTLS(sans ...string) *tlsv3.CommonTlsContext {
	check := &tlsv3.CertificateValidationContext{}
	for _, s := range sans {
		check.MatchTypedSubjectAltNames = append(check.MatchTypedSubjectAltNames, &tlsv3.SubjectAltNameMatcher{
			SanType: tlsv3.SubjectAltNameMatcher_URI, Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}},
		})
	}
	return &tlsv3.CommonTlsContext{
		AlpnProtocols:                  []string{"isthmus"},
		TlsParams:                      &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3},
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{sds("default")},
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext: check, ValidationContextSdsSecretConfig: sds("ROOTCA"),
		}},
	}
}

func socketOf(name string, m proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{Name: name, ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: anyOf(m)}}
}

func upstreamTLS(sni string, sans ...string) *corev3.TransportSocket {
	return socketOf("envoy.transport_sockets.tls", &tlsv3.UpstreamTlsContext{Sni: sni, CommonTlsContext: commonTLS(sans...)})
}

func downstreamTLS(requireClient bool) *corev3.TransportSocket {
	return socketOf("envoy.transport_sockets.tls", &tlsv3.DownstreamTlsContext{RequireClientCertificate: wrapperspb.Bool(requireClient), CommonTlsContext: commonTLS()})
}

func manager(routes proto.Message, xfcc bool) *hcmv3.HttpConnectionManager {
	m := &hcmv3.HttpConnectionManager{
		StatPrefix: "p", CodecType: hcmv3.HttpConnectionManager_AUTO,
		HttpFilters:       []*hcmv3.HttpFilter{{Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: anyOf(&routerv3.Router{})}}},
		UpgradeConfigs:    []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		UseRemoteAddress:  wrapperspb.Bool(false),
		StreamIdleTimeout: dur(0), NormalizePath: yes(), ServerName: "isthmus",
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
	}
	if xfcc {
		m.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE_SET
		m.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{Uri: true, Dns: true}
	}
	switch r := routes.(type) {
	case *routev3.RouteConfiguration:
		m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: r}
	case *wrapperspb.StringValue:
		m.RouteSpecifier = &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads(), RouteConfigName: r.GetValue()}}
	}
	return m
}

func httpFilters(m *hcmv3.HttpConnectionManager) []*listenerv3.Filter {
	return []*listenerv3.Filter{filter("envoy.filters.network.http_connection_manager", m)}
}

func tcpFilters(cluster string) []*listenerv3.Filter {
	return []*listenerv3.Filter{filter("envoy.filters.network.tcp_proxy", &tcpproxyv3.TcpProxy{
		StatPrefix: "p", ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: cluster}, MaxConnectAttempts: u32(4), IdleTimeout: dur(time.Hour),
	})}
}

// outboundCatchAll is the listener that redirected connections arrive at.
func outboundCatchAll(at netip.AddrPort) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name: "outbound", Address: addr(at), TrafficDirection: corev3.TrafficDirection_OUTBOUND, UseOriginalDst: yes(),
		FilterChains: []*listenerv3.FilterChain{{Filters: tcpFilters("passthrough")}},
	}
}

func passthrough() *clusterv3.Cluster { return originalDst("passthrough", 1337, false) }

func originalDst(name string, mark int64, http bool) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST}, LbPolicy: clusterv3.Cluster_CLUSTER_PROVIDED,
		ConnectTimeout: dur(10 * time.Second), UpstreamBindConfig: &corev3.BindConfig{SocketOptions: []*corev3.SocketOption{intOption(1, 36, mark)}},
	}
	if http {
		c.TypedExtensionProtocolOptions = httpOptions(false, 100)
	}
	return c
}

func intOption(level, name, v int64) *corev3.SocketOption {
	return &corev3.SocketOption{Level: level, Name: name, Value: &corev3.SocketOption_IntValue{IntValue: v}, State: corev3.SocketOption_STATE_PREBIND}
}

func httpOptions(h2 bool, streams uint32) map[string]*anypb.Any {
	two := &corev3.Http2ProtocolOptions{MaxConcurrentStreams: u32(streams), ConnectionKeepalive: &corev3.KeepaliveSettings{Interval: dur(5 * time.Second), Timeout: dur(2 * time.Second)}}
	o := &upstreamhttpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: dur(time.Minute), MaxConnectionDuration: dur(time.Minute), MaxRequestsPerConnection: u32(1000)},
	}
	if h2 {
		o.UpstreamProtocolOptions = &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: two},
		}}
	} else {
		o.UpstreamProtocolOptions = &upstreamhttpv3.HttpProtocolOptions_UseDownstreamProtocolConfig{UseDownstreamProtocolConfig: &upstreamhttpv3.HttpProtocolOptions_UseDownstreamHttpConfig{
			HttpProtocolOptions: &corev3.Http1ProtocolOptions{}, Http2ProtocolOptions: two,
		}}
	}
	return map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": anyOf(o)}
}

// serviceListener is the listener of a service port at vip, which is not bound.
func serviceListener(name string, vip netip.AddrPort, filters []*listenerv3.Filter) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name: name, Address: addr(vip), BindToPort: wrapperspb.Bool(false), TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		FilterChains: []*listenerv3.FilterChain{{Filters: filters}},
	}
}

// autoListener looks whether it is HTTP.
func autoListener(name string, vip netip.AddrPort) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name: name, Address: addr(vip), BindToPort: wrapperspb.Bool(false), TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		ListenerFilters:        []*listenerv3.ListenerFilter{listenerFilter("envoy.filters.listener.http_inspector", &httpinspectorv3.HttpInspector{})},
		ListenerFiltersTimeout: dur(100 * time.Millisecond), ContinueOnListenerFiltersTimeout: true,
		FilterChains: []*listenerv3.FilterChain{{
			FilterChainMatch: &listenerv3.FilterChainMatch{ApplicationProtocols: []string{"http/1.0", "http/1.1", "h2c"}},
			Filters:          httpFilters(manager(wrapperspb.String(name), false)),
		}},
		DefaultFilterChain: &listenerv3.FilterChain{Filters: tcpFilters(name)},
	}
}

func routes(name string) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{
		Name: name, ValidateClusters: wrapperspb.Bool(false),
		VirtualHosts: []*routev3.VirtualHost{{Name: name, Domains: []string{"*"}, Routes: []*routev3.Route{{
			Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: name}, Timeout: dur(0), RetryPolicy: retries(),
			}},
		}}}},
	}
}

func retries() *routev3.RetryPolicy {
	return &routev3.RetryPolicy{
		RetryOn: "connect-failure,refused-stream,reset-before-request", NumRetries: u32(3), HostSelectionRetryMaxAttempts: 5,
		RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
			Name:       "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: anyOf(&prevhostsv3.PreviousHostsPredicate{})},
		}},
		RetryPriority: &routev3.RetryPolicy_RetryPriority{
			Name:       "envoy.retry_priorities.previous_priorities",
			ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{TypedConfig: anyOf(&prevpriov3.PreviousPrioritiesConfig{UpdateFrequency: 1})},
		},
	}
}

func inlineRoutes(cluster string) *routev3.RouteConfiguration {
	r := routes(cluster)
	r.VirtualHosts[0].Routes[0].GetRoute().RetryPolicy = nil
	return r
}

// edsCluster is the xds cluster of a service port.
func edsCluster(name, sni string, sans ...string) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: name}, ConnectTimeout: dur(10 * time.Second),
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{
			HealthyPanicThreshold:   &typev3.Percent{Value: 0},
			LocalityConfigSpecifier: &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig_{LocalityWeightedLbConfig: &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig{}},
		},
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: u32(1<<31 - 1), MaxPendingRequests: u32(1<<31 - 1), MaxRequests: u32(1<<31 - 1), MaxRetries: u32(1<<31 - 1),
		}}},
		OutlierDetection:              outlier(),
		UpstreamConnectionOptions:     &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{KeepaliveTime: u32(10), KeepaliveInterval: u32(3), KeepaliveProbes: u32(3)}},
		UpstreamBindConfig:            &corev3.BindConfig{SocketOptions: []*corev3.SocketOption{intOption(1, 36, 1337), intOption(6, 18, 5000)}},
		TypedExtensionProtocolOptions: httpOptions(false, 100),
		Metadata:                      &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"isthmus": strs(map[string]any{"service": "reviews.shop.svc.clusterset.local", "namespace": "shop", "name": "reviews", "port": "9080"})}},
	}
	if len(sans) > 0 {
		c.TransportSocketMatches = append(c.TransportSocketMatches, &clusterv3.Cluster_TransportSocketMatch{
			Name: "mtls", Match: strs(map[string]any{"tunnel": "mtls"}), TransportSocket: upstreamTLS(sni, sans...),
		})
	}
	c.TransportSocketMatches = append(c.TransportSocketMatches, &clusterv3.Cluster_TransportSocketMatch{
		Name: "plaintext", Match: &structpb.Struct{}, TransportSocket: socketOf("envoy.transport_sockets.raw_buffer", &rawv3.RawBuffer{}),
	})
	return c
}

func outlier() *clusterv3.OutlierDetection {
	return &clusterv3.OutlierDetection{
		EnforcingConsecutive_5Xx: u32(0), ConsecutiveGatewayFailure: u32(5), EnforcingConsecutiveGatewayFailure: u32(0),
		SplitExternalLocalOriginErrors: true, ConsecutiveLocalOriginFailure: u32(3), EnforcingConsecutiveLocalOriginFailure: u32(100),
		EnforcingSuccessRate: u32(0), EnforcingLocalOriginSuccessRate: u32(0),
		Interval: dur(time.Second), BaseEjectionTime: dur(5 * time.Second), MaxEjectionTime: dur(30 * time.Second), MaxEjectionPercent: u32(100),
	}
}

// ep is an endpoint of an assignment.
type ep struct {
	at       netip.AddrPort
	priority uint32
	weight   uint32
	mtls     bool
	zone     string
	health   corev3.HealthStatus
}

func assignment(name string, eps ...ep) *endpointv3.ClusterLoadAssignment {
	a := &endpointv3.ClusterLoadAssignment{ClusterName: name, Policy: &endpointv3.ClusterLoadAssignment_Policy{OverprovisioningFactor: u32(100)}}
	type key struct {
		priority uint32
		zone     string
	}
	groups := map[key]*endpointv3.LocalityLbEndpoints{}
	for _, e := range eps {
		g := groups[key{e.priority, e.zone}]
		if g == nil {
			g = &endpointv3.LocalityLbEndpoints{Locality: &corev3.Locality{Zone: e.zone}, Priority: e.priority, LoadBalancingWeight: u32(0)}
			groups[key{e.priority, e.zone}] = g
			a.Endpoints = append(a.Endpoints, g)
		}
		weight := max(1, e.weight)
		g.LoadBalancingWeight.Value += weight
		meta := &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"isthmus": strs(map[string]any{"cluster": "west", "network": "n2", "via": "direct"})}}
		if e.mtls {
			meta.FilterMetadata["envoy.transport_socket_match"] = strs(map[string]any{"tunnel": "mtls"})
		}
		g.LbEndpoints = append(g.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier:      &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: addr(e.at)}},
			LoadBalancingWeight: u32(weight), Metadata: meta, HealthStatus: e.health,
		})
	}
	return a
}

func inspectors(fs ...*listenerv3.ListenerFilter) []*listenerv3.ListenerFilter {
	return append([]*listenerv3.ListenerFilter{
		listenerFilter("envoy.filters.listener.original_dst", &originaldstv3.OriginalDst{}),
		listenerFilter("envoy.filters.listener.tls_inspector", &tlsinspectorv3.TlsInspector{}),
	}, fs...)
}

// inboundListener is the permissive or strict inbound side of a pod with one port.
func inboundListener(at netip.AddrPort, port uint16, strict, http bool) *listenerv3.Listener {
	cluster := inboundName(port)
	filters := func(xfcc bool) []*listenerv3.Filter {
		if http {
			return httpFilters(manager(inlineRoutes(cluster), xfcc))
		}
		return tcpFilters(cluster)
	}
	l := &listenerv3.Listener{
		Name: "inbound", Address: addr(at), TrafficDirection: corev3.TrafficDirection_INBOUND,
		ListenerFilters: inspectors(), ListenerFiltersTimeout: dur(time.Second), ContinueOnListenerFiltersTimeout: true,
	}
	mtls := &listenerv3.FilterChain{
		FilterChainMatch: &listenerv3.FilterChainMatch{DestinationPort: u32(uint32(port))},
		Filters:          filters(true), TransportSocket: downstreamTLS(true),
	}
	l.FilterChains = append(l.FilterChains, mtls)
	if !strict {
		mtls.FilterChainMatch.TransportProtocol, mtls.FilterChainMatch.ApplicationProtocols = "tls", []string{"isthmus"}
		l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{
			FilterChainMatch: &listenerv3.FilterChainMatch{DestinationPort: u32(uint32(port))}, Filters: filters(false),
		})
	}
	return l
}

func inboundName(port uint16) string {
	return "inbound|" + netip.AddrPortFrom(netip.IPv4Unspecified(), port).String()[len("0.0.0.0:"):] + "||"
}

// gatewayListener passes exported names on, and answers the prober itself.
func gatewayListener(at netip.AddrPort) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name: "east-west", Address: addr(at),
		ListenerFilters:        []*listenerv3.ListenerFilter{listenerFilter("envoy.filters.listener.tls_inspector", &tlsinspectorv3.TlsInspector{})},
		ListenerFiltersTimeout: dur(5 * time.Second),
		FilterChains: []*listenerv3.FilterChain{
			{
				FilterChainMatch: &listenerv3.FilterChainMatch{ServerNames: []string{"probe.sni.isthmus.internal"}, TransportProtocol: "tls", ApplicationProtocols: []string{"isthmus"}},
				TransportSocket:  downstreamTLS(false),
				Filters:          []*listenerv3.Filter{filter("envoy.filters.network.direct_response", &directv3.Config{Response: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: "ok"}}})},
			},
			{
				FilterChainMatch: &listenerv3.FilterChainMatch{ServerNames: []string{"*.sni.isthmus.internal"}, TransportProtocol: "tls", ApplicationProtocols: []string{"isthmus"}},
				Filters:          append([]*listenerv3.Filter{filter("envoy.filters.network.sni_cluster", &sniclusterv3.SniCluster{})}, tcpFilters("blackhole")...),
			},
		},
	}
}

// gatewayCluster leads to pods with a sidecar, as they are.
func gatewayCluster(sni string) *clusterv3.Cluster {
	c := edsCluster(sni, "")
	c.TransportSocketMatches, c.TypedExtensionProtocolOptions, c.Metadata = nil, nil, nil
	c.UpstreamBindConfig = &corev3.BindConfig{SocketOptions: []*corev3.SocketOption{intOption(6, 18, 5000)}}
	return c
}

type anyProto = anypb.Any

// perConnection sets max_requests_per_connection.
func perConnection(t testing.TB, in *anypb.Any, n uint32) *anypb.Any {
	t.Helper()
	var o upstreamhttpv3.HttpProtocolOptions
	must(t, in.UnmarshalTo(&o))
	o.CommonHttpProtocolOptions.MaxRequestsPerConnection = u32(n)
	return anyOf(&o)
}

func idleFilters(cluster string, idle time.Duration) []*listenerv3.Filter {
	return []*listenerv3.Filter{filter("envoy.filters.network.tcp_proxy", &tcpproxyv3.TcpProxy{
		StatPrefix: "p", ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: cluster}, IdleTimeout: dur(idle),
	})}
}
