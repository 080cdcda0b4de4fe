package resources

import (
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
)

// httpProtocols is what http_inspector calls plaintext HTTP.
func httpProtocols() []string { return []string{"http/1.0", "http/1.1", "h2c"} }

func networkFilter(name string, config proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(config)}}
}

func listenerFilter(name string, config proto.Message) *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{Name: name, ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: pack(config)}}
}

func httpInspector() *listenerv3.ListenerFilter {
	return listenerFilter("envoy.filters.listener.http_inspector", new(httpinspectorv3.HttpInspector))
}

func tlsInspector() *listenerv3.ListenerFilter {
	return listenerFilter("envoy.filters.listener.tls_inspector", new(tlsinspectorv3.TlsInspector))
}

func originalDst() *listenerv3.ListenerFilter {
	return listenerFilter("envoy.filters.listener.original_dst", new(originaldstv3.OriginalDst))
}

// tcpProxy passes bytes to xdsCluster. It tries several endpoints, since one
// alone may be the dead one again. (envoyproxy/envoy#31453)
func tcpProxy(stat, xdsCluster string) *listenerv3.Filter {
	return networkFilter(tcpProxyName, tcpTo(stat, xdsCluster))
}

const tcpProxyName = "envoy.filters.network.tcp_proxy"

func tcpTo(stat, xdsCluster string) *tcpv3.TcpProxy {
	return &tcpv3.TcpProxy{
		StatPrefix:         stat,
		ClusterSpecifier:   &tcpv3.TcpProxy_Cluster{Cluster: xdsCluster},
		MaxConnectAttempts: u32(4),
		IdleTimeout:        seconds(time.Hour),
	}
}

// connectionManager is what both directions have in common; the caller adds
// where the routes come from.
func connectionManager(stat string) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix: stat,
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		HttpFilters: []*hcmv3.HttpFilter{{
			Name:       "envoy.filters.http.router",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(new(routerv3.Router))},
		}},
		UpgradeConfigs:             []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		UseRemoteAddress:           boolean(false),
		ForwardClientCertDetails:   hcmv3.HttpConnectionManager_SANITIZE,
		StreamIdleTimeout:          seconds(0),
		NormalizePath:              boolean(true),
		ServerName:                 "isthmus",
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
	}
}

func httpFilter(m *hcmv3.HttpConnectionManager) *listenerv3.Filter {
	return networkFilter("envoy.filters.network.http_connection_manager", m)
}

// outboundHTTP serves HTTP by the route configuration of that name.
func outboundHTTP(name string) *listenerv3.Filter {
	m := connectionManager(name)
	m.RouteSpecifier = &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: name, ConfigSource: overADS()}}
	return httpFilter(m)
}

// inboundHTTP serves HTTP to the application's xds cluster. Only after mTLS is
// there a caller to tell of; what the client claims is always taken away.
func inboundHTTP(xdsCluster string, mtls bool) *listenerv3.Filter {
	m := connectionManager(xdsCluster)
	m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: everything(xdsCluster, toCluster(xdsCluster))}
	m.LocalReplyConfig = markUnreached()
	if mtls {
		m.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE_SET
		m.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{Uri: true, Dns: true}
	}
	return httpFilter(m)
}

// headerUnreached tells the caller's proxy that the application could not be
// connected to, so that nothing of the request was acted on and it may go elsewhere.
const headerUnreached = "x-isthmus-unreached"

func markUnreached() *hcmv3.LocalReplyConfig {
	return &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{{
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
			ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: []string{"UF"}},
		}},
		HeadersToAdd: []*corev3.HeaderValueOption{{
			Header:       &corev3.HeaderValue{Key: headerUnreached, Value: "1"},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}},
	}}}
}

func overADS() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: new(corev3.AggregatedConfigSource)},
	}
}

func toCluster(xdsCluster string) *routev3.RouteAction {
	return &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: xdsCluster},
		Timeout:          seconds(0),
	}
}

// everything is a route configuration with one route for all requests: the
// address has said which service is meant, not the Host header.
func everything(name string, action *routev3.RouteAction) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{
		Name: name,
		VirtualHosts: []*routev3.VirtualHost{{
			Name:    name,
			Domains: []string{"*"},
			Routes: []*routev3.Route{{
				Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
				Action: &routev3.Route_Route{Route: action},
			}},
		}},
	}
}
