package resources

import (
	"math"
	"strconv"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/federation"
)

// edsCluster is what every xds cluster with a load assignment of ours has.
func edsCluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: overADS(), ServiceName: name},
		ConnectTimeout:       seconds(connectTimeout),
		LbPolicy:             clusterv3.Cluster_ROUND_ROBIN,
		CommonLbConfig:       &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{Value: 0}},
		OutlierDetection:     outlierDetection(),
		UpstreamConnectionOptions: &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{
			KeepaliveProbes: u32(3), KeepaliveTime: u32(10), KeepaliveInterval: u32(3),
		}},
	}
}

// outlierDetection takes an endpoint out of use that cannot be connected to,
// even the last one, and never for what the application answers.
func outlierDetection() *clusterv3.OutlierDetection {
	return &clusterv3.OutlierDetection{
		Interval:                               seconds(time.Second),
		BaseEjectionTime:                       seconds(5 * time.Second),
		MaxEjectionTime:                        seconds(30 * time.Second),
		MaxEjectionPercent:                     u32(100),
		EnforcingConsecutive_5Xx:               u32(0),
		ConsecutiveGatewayFailure:              u32(5),
		EnforcingConsecutiveGatewayFailure:     u32(0),
		SplitExternalLocalOriginErrors:         true,
		ConsecutiveLocalOriginFailure:          u32(3),
		EnforcingConsecutiveLocalOriginFailure: u32(100),
		EnforcingSuccessRate:                   u32(0),
		EnforcingLocalOriginSuccessRate:        u32(0),
	}
}

// unlimited lifts Envoy's default limits of 1,024, which no service asked for.
func unlimited() *clusterv3.CircuitBreakers {
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		Priority:           corev3.RoutingPriority_DEFAULT,
		MaxConnections:     u32(math.MaxInt32),
		MaxPendingRequests: u32(math.MaxInt32),
		MaxRequests:        u32(math.MaxInt32),
		MaxRetries:         u32(math.MaxInt32),
	}}}
}

// describe says which service an xds cluster leads to, for telemetry.
func describe(key federation.ServiceKey, port uint16) *corev3.Metadata {
	return metadata("isthmus", map[string]string{
		"service": key.Hostname(), "namespace": key.Namespace, "name": key.Name, "port": strconv.Itoa(int(port)),
	})
}

// metadata leaves out what is empty.
func metadata(filter string, values map[string]string) *corev3.Metadata {
	fields := map[string]*structpb.Value{}
	for k, v := range values {
		if v != "" {
			fields[k] = structpb.NewStringValue(v)
		}
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{filter: {Fields: fields}}}
}
