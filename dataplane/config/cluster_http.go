package config

import (
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
)

const (
	httpOptionsName   = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
	defaultHTTPIdle   = time.Hour // Envoy's
	defaultMaxStreams = 100       // where nothing is said; Envoy's is 2^31-1
)

func (c *Cluster) parseHTTP(m *clusterv3.Cluster) error {
	for name, any := range m.GetTypedExtensionProtocolOptions() {
		path := fmt.Sprintf("typed_extension_protocol_options[%q]", name)
		inner, err := unpack(path, any)
		if err != nil {
			return err
		}
		o, ok := inner.(*upstreamhttpv3.HttpProtocolOptions)
		if !ok || name != httpOptionsName {
			return unsupported(path, "message "+any.GetTypeUrl())
		}
		if c.HTTP, err = parseHTTPOptions(path, o); err != nil {
			return err
		}
	}
	return nil
}

func parseHTTPOptions(path string, m *upstreamhttpv3.HttpProtocolOptions) (*HTTPOptions, error) {
	o := &HTTPOptions{MaxStreams: defaultMaxStreams}
	common := m.GetCommonHttpProtocolOptions()
	var err error
	if o.IdleTimeout, err = duration(path+".common_http_protocol_options.idle_timeout", common.GetIdleTimeout(), defaultHTTPIdle); err != nil {
		return nil, err
	}
	if o.MaxDuration, err = duration(path+".common_http_protocol_options.max_connection_duration", common.GetMaxConnectionDuration(), 0); err != nil {
		return nil, err
	}
	o.MaxPerConnect = number(common.GetMaxRequestsPerConnection(), 0)
	var h2 *corev3.Http2ProtocolOptions
	switch {
	case m.GetUseDownstreamProtocolConfig() != nil:
		o.Version, h2 = HTTPDownstream, m.GetUseDownstreamProtocolConfig().GetHttp2ProtocolOptions()
		if h2 == nil { // Envoy: without it HTTP/2 is not offered upstream
			o.Version = HTTP1
		}
	case m.GetExplicitHttpConfig().GetHttp2ProtocolOptions() != nil:
		o.Version, h2 = HTTP2, m.GetExplicitHttpConfig().GetHttp2ProtocolOptions()
	default:
		o.Version = HTTP1
	}
	o.MaxStreams = number(h2.GetMaxConcurrentStreams(), defaultMaxStreams)
	if o.PingInterval, err = duration(path+".http2_protocol_options.connection_keepalive.interval", h2.GetConnectionKeepalive().GetInterval(), 0); err != nil {
		return nil, err
	}
	o.PingTimeout, err = duration(path+".http2_protocol_options.connection_keepalive.timeout", h2.GetConnectionKeepalive().GetTimeout(), 0)
	return o, err
}
