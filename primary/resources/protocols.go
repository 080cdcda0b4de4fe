package resources

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/federation"
)

const httpOptionsName = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// outboundProtocols says how HTTP goes to a service. Through a gateway one
// connection is one pod, so distant services are given several connections that
// are renewed, for the load to follow the weights.
func outboundProtocols(protocol federation.Protocol, distant bool) map[string]*anypb.Any {
	if protocol == federation.ProtocolTCP {
		return nil
	}
	common := &corev3.HttpProtocolOptions{IdleTimeout: seconds(time.Minute)}
	streams := uint32(100)
	if distant {
		common.MaxConnectionDuration = seconds(30 * time.Second)
		common.MaxRequestsPerConnection = u32(100)
		streams = 8
	}
	options := &upstreamhttpv3.HttpProtocolOptions{CommonHttpProtocolOptions: common}
	if protocol == federation.ProtocolHTTP2 {
		explicit(options, http2(streams))
	} else {
		asDownstream(options, http2(streams))
	}
	return map[string]*anypb.Any{httpOptionsName: pack(options)}
}

// http2 pings, so that a dead connection is noticed while it is idle.
func http2(streams uint32) *corev3.Http2ProtocolOptions {
	return &corev3.Http2ProtocolOptions{
		MaxConcurrentStreams: u32(streams),
		ConnectionKeepalive:  &corev3.KeepaliveSettings{Interval: seconds(5 * time.Second), Timeout: seconds(2 * time.Second)},
	}
}

func explicit(o *upstreamhttpv3.HttpProtocolOptions, h2 *corev3.Http2ProtocolOptions) {
	o.UpstreamProtocolOptions = &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: h2},
		},
	}
}

// asDownstream speaks to the endpoint what the client spoke.
func asDownstream(o *upstreamhttpv3.HttpProtocolOptions, h2 *corev3.Http2ProtocolOptions) {
	o.UpstreamProtocolOptions = &upstreamhttpv3.HttpProtocolOptions_UseDownstreamProtocolConfig{
		UseDownstreamProtocolConfig: &upstreamhttpv3.HttpProtocolOptions_UseDownstreamHttpConfig{
			HttpProtocolOptions:  new(corev3.Http1ProtocolOptions),
			Http2ProtocolOptions: h2,
		},
	}
}
