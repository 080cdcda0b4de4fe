package config

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	directv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	setstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	sniclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_cluster/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
)

func parseChain(path string, m *listenerv3.FilterChain) (*Chain, error) {
	c := &Chain{Name: m.GetName(), key: bytesOf(m)}
	c.rest = withoutSources(c.key, m)
	var err error
	if c.Match, err = parseMatch(path+".filter_chain_match", m.GetFilterChainMatch()); err != nil {
		return nil, err
	}
	if c.TLS, err = parseDownstreamTLS(path+".transport_socket", m.GetTransportSocket()); err != nil {
		return nil, err
	}
	for i, f := range m.GetFilters() {
		if c.terminal() {
			return nil, fmt.Errorf("%s.filters[%d]: comes after the last filter", path, i)
		}
		if err := c.parseFilter(fmt.Sprintf("%s.filters[%d].typed_config", path, i), f); err != nil {
			return nil, err
		}
	}
	if !c.terminal() {
		return nil, fmt.Errorf("%s.filters: no tcp_proxy, http_connection_manager or direct_response", path)
	}
	if (c.SNICluster || c.Cluster != nil) && c.TCP == nil {
		return nil, fmt.Errorf("%s.filters: sni_cluster or set_filter_state without tcp_proxy", path)
	}
	if c.SNICluster && c.Cluster != nil {
		return nil, unsupported(path+".filters", "both sni_cluster and set_filter_state")
	}
	return c, nil
}

// withoutSources returns the deterministic bytes of m, which are key, without
// its source ranges.
func withoutSources(key string, m *listenerv3.FilterChain) string {
	if len(m.GetFilterChainMatch().GetSourcePrefixRanges()) == 0 {
		return key
	}
	bare := proto.Clone(m).(*listenerv3.FilterChain)
	bare.FilterChainMatch.SourcePrefixRanges = []*corev3.CidrRange{{}} // some is not none
	return bytesOf(bare)
}

func (c *Chain) terminal() bool { return c.TCP != nil || c.HTTP != nil || c.Direct != nil }

func (c *Chain) parseFilter(path string, f *listenerv3.Filter) error {
	m, err := unpack(path, f.GetTypedConfig())
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *sniclusterv3.SniCluster:
		c.SNICluster = true
	case *setstatev3.Config:
		err = c.parseSetState(path, m)
	case *rbacfilterv3.RBAC:
		var access *Access
		access, err = parseAccess(path, m)
		c.Access = append(c.Access, access)
	case *directv3.Config:
		c.Direct = &DirectResponse{Body: append([]byte(m.GetResponse().GetInlineString()), m.GetResponse().GetInlineBytes()...)}
	case *tcpproxyv3.TcpProxy:
		c.TCP, err = parseTCPProxy(path, m)
	case *hcmv3.HttpConnectionManager:
		c.HTTP, err = parseHTTPManager(path, m)
	default:
		return unsupported(path, "message "+f.GetTypedConfig().GetTypeUrl())
	}
	return err
}

func parseTCPProxy(path string, m *tcpproxyv3.TcpProxy) (*TCPProxy, error) {
	idle, err := duration(path+".idle_timeout", m.GetIdleTimeout(), defaultTCPIdle)
	if err != nil {
		return nil, err
	}
	if m.GetCluster() == "" {
		return nil, fmt.Errorf("%s.cluster: missing", path)
	}
	life, err := duration(path+".max_downstream_connection_duration", m.GetMaxDownstreamConnectionDuration(), 0)
	if err != nil {
		return nil, err
	}
	attempts := max(1, min(number(m.GetMaxConnectAttempts(), 1), maxAttempts))
	return &TCPProxy{Cluster: m.GetCluster(), MaxConnects: int(attempts), IdleTimeout: idle, MaxDuration: life}, nil
}
