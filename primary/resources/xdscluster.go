package resources

import (
	"fmt"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawbufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/eastwest"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/trust"
)

// connectTimeout bounds one attempt to connect to an endpoint.
const connectTimeout = 2 * time.Second

// ClusterView is what a proxy's place changes about the xds cluster of a port.
type ClusterView struct {
	Distant bool // some exporting cluster is on another network, behind gateways
	MTLS    bool // the proxy speaks the mesh's mTLS
}

// Distant reports whether a cluster of another network exports svc to the local
// one. It does not ask for endpoints: the xds cluster must not change whenever
// the last one goes.
func Distant(s *federation.Snapshot, svc *federation.Service, network federation.NetworkName) bool {
	return slices.ContainsFunc(svc.Exports, func(e federation.Export) bool {
		c := s.Cluster(e.Cluster)
		return !e.Hidden && c != nil && c.Network != network
	})
}

// NewCluster returns the xds cluster of an outbound port of svc.
func NewCluster(svc *federation.Service, port federation.Port, view ClusterView) (*Resource, error) {
	name := OutboundKey{Service: svc.Key, Port: port.Number}.String()
	c := outboundCluster(name, name, svc, port, view.Distant)
	c.UpstreamBindConfig = bindConfig(markOption(api.MarkOutbound), userTimeoutOption())
	if err := addSockets(c, view.MTLS, svc.Accounts, func() (string, error) {
		return eastwest.SNI(svc.Key.Namespace, svc.Key.Name, port.Number)
	}); err != nil {
		return nil, err
	}
	return seal(Cluster, name, c)
}

// NewPodCluster returns the xds cluster of one pod of a headless service, whose
// identity is the only one that may answer. Behind gateways it has a server name
// of its own.
func NewPodCluster(svc *federation.Service, port federation.Port, p PodPort, mtls bool) (*Resource, error) {
	name, e := p.Key(svc).String(), p.Endpoint
	c := outboundCluster(name, name, svc, port, p.Distant)
	c.UpstreamBindConfig = bindConfig(markOption(api.MarkOutbound), userTimeoutOption())
	var ids []trust.ID
	if !e.Account.IsZero() {
		ids = []trust.ID{e.Account}
	}
	if err := addSockets(c, mtls, ids, func() (string, error) {
		if p.Distant {
			return eastwest.PodSNI(svc.Key.Namespace, svc.Key.Name, port.Number, e.Pod, string(e.Cluster))
		}
		return eastwest.SNI(svc.Key.Namespace, svc.Key.Name, port.Number)
	}); err != nil {
		return nil, err
	}
	return seal(Cluster, name, c)
}

// outboundCluster is what the xds clusters to services have in common; the
// caller adds transport sockets and socket options.
func outboundCluster(name, assignment string, svc *federation.Service, port federation.Port, distant bool) *clusterv3.Cluster {
	c := edsCluster(name)
	c.EdsClusterConfig.ServiceName = assignment
	c.CommonLbConfig.LocalityConfigSpecifier = &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig_{
		LocalityWeightedLbConfig: new(clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig),
	}
	if port.Protocol == federation.ProtocolHTTP || port.Protocol == federation.ProtocolHTTP2 {
		c.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
	}
	c.CircuitBreakers = unlimited()
	c.TypedExtensionProtocolOptions = outboundProtocols(port.Protocol, distant)
	c.Metadata = describe(svc.Key, port.Number)
	return c
}

// addSockets adds the transport sockets: that for endpoints that speak mTLS,
// where the proxy does too and somebody's identity is known (an empty list would
// let anybody answer), and plaintext.
func addSockets(c *clusterv3.Cluster, mtls bool, ids []trust.ID, sni func() (string, error)) error {
	if mtls && len(ids) > 0 {
		if err := addMTLS(c, ids, sni); err != nil {
			return err
		}
	}
	c.TransportSocketMatches = append(c.TransportSocketMatches, plaintextMatch())
	return nil
}

func addMTLS(c *clusterv3.Cluster, ids []trust.ID, serverName func() (string, error)) error {
	sni, err := serverName()
	if err != nil {
		return fmt.Errorf("%w: xds cluster %s: %w", ErrInvalid, c.Name, err)
	}
	c.TransportSocketMatches = append(c.TransportSocketMatches, &clusterv3.Cluster_TransportSocketMatch{
		Name:            "mtls",
		Match:           tunnelMetadata(),
		TransportSocket: clientTLS(sni, ids),
	})
	return nil
}

// tunnelMetadata marks an endpoint that speaks mTLS, and selects its socket.
func tunnelMetadata() *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{"tunnel": structpb.NewStringValue("mtls")}}
}

func plaintextMatch() *clusterv3.Cluster_TransportSocketMatch {
	return &clusterv3.Cluster_TransportSocketMatch{
		Name:  "plaintext",
		Match: new(structpb.Struct),
		TransportSocket: &corev3.TransportSocket{
			Name:       "envoy.transport_sockets.raw_buffer",
			ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(new(rawbufferv3.RawBuffer))},
		},
	}
}

// NewPassthrough returns the xds cluster for what matches no service.
func NewPassthrough() (*Resource, error) {
	return seal(Cluster, PassthroughName, &clusterv3.Cluster{
		Name:                 PassthroughName,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
		LbPolicy:             clusterv3.Cluster_CLUSTER_PROVIDED,
		ConnectTimeout:       seconds(10 * time.Second),
		UpstreamBindConfig:   bindConfig(markOption(api.MarkOutbound)),
	})
}
