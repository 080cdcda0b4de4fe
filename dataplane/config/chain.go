package config

import (
	"fmt"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	directv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	sniclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_cluster/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
)

func parseChain(path string, m *listenerv3.FilterChain) (*Chain, error) {
	c := &Chain{Name: m.GetName(), key: bytesOf(m)}
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
	if c.SNICluster && c.TCP == nil {
		return nil, fmt.Errorf("%s.filters: sni_cluster without tcp_proxy", path)
	}
	return c, nil
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
	attempts := max(1, min(number(m.GetMaxConnectAttempts(), 1), maxAttempts))
	return &TCPProxy{Cluster: m.GetCluster(), MaxConnects: int(attempts), IdleTimeout: idle}, nil
}
