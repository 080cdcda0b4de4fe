// Package envoy runs an Envoy beside isthmus-proxy: it writes Envoy's
// bootstrap, supervises the process and talks to its admin socket.
package envoy

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	downstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Names of the static xds clusters, which docs/xds.md knows.
const (
	ClusterXDS = "xds-grpc"
	ClusterSDS = "sds-grpc"
)

const (
	httpOptions       = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
	connectionMonitor = "envoy.resource_monitors.global_downstream_max_connections"
	maxSocketPath     = 107 // bytes of a unix socket's path
)

// Config is what the bootstrap depends on.
type Config struct {
	Node           *corev3.Node // required
	Socket         string       // required; absolute path of the unix socket that serves ADS and SDS
	Admin          string       // required; absolute path of the unix socket for Envoy's admin
	MaxConnections int64        // downstream, in all; 0 means 20,000
}

// Bootstrap returns the bootstrap of c. It passes Envoy's own validation.
func Bootstrap(c Config) (*bootstrapv3.Bootstrap, error) {
	for _, path := range []string{c.Socket, c.Admin} {
		if !filepath.IsAbs(path) || len(path) > maxSocketPath {
			return nil, fmt.Errorf("envoy bootstrap: %q is no absolute path of at most %d bytes", path, maxSocketPath)
		}
	}
	if c.Node.GetId() == "" {
		return nil, errors.New("envoy bootstrap: no node")
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 20_000
	}
	clusters, err := staticClusters(c.Socket)
	if err != nil {
		return nil, err
	}
	limits, err := connectionLimit(c.MaxConnections)
	if err != nil {
		return nil, err
	}
	b := &bootstrapv3.Bootstrap{
		Node:             c.Node,
		Admin:            &bootstrapv3.Admin{Address: pipe(c.Admin)},
		StaticResources:  &bootstrapv3.Bootstrap_StaticResources{Clusters: clusters},
		DynamicResources: dynamic(),
		OverloadManager:  limits,
	}
	if err := b.ValidateAll(); err != nil {
		return nil, fmt.Errorf("envoy bootstrap: %w", err)
	}
	return b, nil
}

// Marshal returns b as the JSON that Envoy reads.
func Marshal(b *bootstrapv3.Bootstrap) ([]byte, error) {
	return protojson.MarshalOptions{UseProtoNames: true, Multiline: true}.Marshal(b)
}

func pipe(path string) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}
}

func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(0), // wait: half a configuration is worse than none
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}

func dynamic() *bootstrapv3.Bootstrap_DynamicResources {
	return &bootstrapv3.Bootstrap_DynamicResources{
		CdsConfig: ads(), LdsConfig: ads(),
		AdsConfig: &corev3.ApiConfigSource{
			ApiType: corev3.ApiConfigSource_DELTA_GRPC, TransportApiVersion: corev3.ApiVersion_V3, SetNodeOnFirstMessageOnly: true,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: ClusterXDS},
			}}},
		},
	}
}

func staticClusters(socket string) ([]*clusterv3.Cluster, error) {
	http2, err := anypb.New(&httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{}},
		},
	}})
	if err != nil {
		return nil, err
	}
	var out []*clusterv3.Cluster
	for _, name := range []string{ClusterXDS, ClusterSDS} {
		out = append(out, &clusterv3.Cluster{
			Name:                          name,
			ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
			ConnectTimeout:                durationpb.New(time.Second),
			TypedExtensionProtocolOptions: map[string]*anypb.Any{httpOptions: http2},
			LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
				LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: pipe(socket)}}}},
			}}},
		})
	}
	return out, nil
}

// connectionLimit bounds the connections of all listeners together.
func connectionLimit(limit int64) (*overloadv3.OverloadManager, error) {
	config := new(anypb.Any)
	monitor := &downstreamv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: limit}
	if err := anypb.MarshalFrom(config, monitor, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, err
	}
	return &overloadv3.OverloadManager{ResourceMonitors: []*overloadv3.ResourceMonitor{{
		Name: connectionMonitor, ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: config},
	}}}, nil
}
