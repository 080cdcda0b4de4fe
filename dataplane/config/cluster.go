package config

import (
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Socket options that may be set: SO_MARK and TCP_USER_TIMEOUT on Linux.
var socketOptions = map[[2]int64]bool{{1, 36}: true, {6, 18}: true}

const (
	defaultConnectTimeout = 5 * time.Second // Envoy's
	defaultLimit          = 1024            // Envoy's, for connections, pending and requests
	defaultRetries        = 3
)

func parseCluster(m *clusterv3.Cluster) (*Cluster, error) {
	c := &Cluster{
		Name:           m.GetName(),
		LeastRequest:   m.GetLbPolicy() == clusterv3.Cluster_LEAST_REQUEST,
		LocalityWeight: m.GetCommonLbConfig().GetLocalityWeightedLbConfig() != nil,
		source:         m,
	}
	info := text(m.GetMetadata().GetFilterMetadata()["isthmus"])
	c.Service = ServiceInfo{Host: info["service"], Namespace: info["namespace"], Name: info["name"], Port: info["port"]}
	for _, parse := range []func(*clusterv3.Cluster) error{
		c.parseType, c.parseTimes, c.parseLimits, c.parseOutlier, c.parseSockets, c.parseTransport, c.parseHTTP,
	} {
		if err := parse(m); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Cluster) parseType(m *clusterv3.Cluster) error {
	provided := m.GetLbPolicy() == clusterv3.Cluster_CLUSTER_PROVIDED
	switch m.GetType() {
	case clusterv3.Cluster_ORIGINAL_DST:
		c.Type = ClusterOriginalDst
		if !provided {
			return fmt.Errorf("lb_policy: must be CLUSTER_PROVIDED for ORIGINAL_DST")
		}
		return nil
	case clusterv3.Cluster_EDS:
	default:
		return unsupported("type", m.GetType().String())
	}
	if provided {
		return fmt.Errorf("lb_policy: CLUSTER_PROVIDED is for ORIGINAL_DST")
	}
	if m.GetEdsClusterConfig().GetEdsConfig().GetAds() == nil {
		return unsupported("eds_cluster_config.eds_config", "anything but ads")
	}
	c.Assignment = m.GetEdsClusterConfig().GetServiceName()
	if c.Assignment == "" {
		c.Assignment = c.Name
	}
	if t := m.GetCommonLbConfig().GetHealthyPanicThreshold(); t == nil || t.GetValue() != 0 {
		return unsupported("common_lb_config.healthy_panic_threshold", "anything but 0")
	}
	return nil
}

func (c *Cluster) parseTimes(m *clusterv3.Cluster) error {
	var err error
	c.ConnectTimeout, err = duration("connect_timeout", m.GetConnectTimeout(), defaultConnectTimeout)
	if err == nil && c.ConnectTimeout == 0 {
		return fmt.Errorf("connect_timeout: must be more than 0")
	}
	if k := m.GetUpstreamConnectionOptions().GetTcpKeepalive(); k != nil {
		c.Keepalive = &Keepalive{
			Idle:     time.Duration(number(k.GetKeepaliveTime(), 7200)) * time.Second,
			Interval: time.Duration(number(k.GetKeepaliveInterval(), 75)) * time.Second,
			Probes:   int(number(k.GetKeepaliveProbes(), 9)),
		}
	}
	return err
}

func (c *Cluster) parseLimits(m *clusterv3.Cluster) error {
	c.Limits = Limits{Connections: defaultLimit, Pending: defaultLimit, Requests: defaultLimit, Retries: defaultRetries}
	for i, t := range m.GetCircuitBreakers().GetThresholds() {
		if t.GetPriority() != corev3.RoutingPriority_DEFAULT {
			return unsupported(fmt.Sprintf("circuit_breakers.thresholds[%d].priority", i), t.GetPriority().String())
		}
		c.Limits = Limits{
			Connections: number(t.GetMaxConnections(), defaultLimit), Pending: number(t.GetMaxPendingRequests(), defaultLimit),
			Requests: number(t.GetMaxRequests(), defaultLimit), Retries: number(t.GetMaxRetries(), defaultRetries),
		}
	}
	return nil
}

func (c *Cluster) parseSockets(m *clusterv3.Cluster) error {
	for i, o := range m.GetUpstreamBindConfig().GetSocketOptions() {
		path := fmt.Sprintf("upstream_bind_config.socket_options[%d]", i)
		if !socketOptions[[2]int64{o.GetLevel(), o.GetName()}] {
			return unsupported(path, fmt.Sprintf("level %d name %d", o.GetLevel(), o.GetName()))
		}
		if v := o.GetIntValue(); v < 0 || v > 1<<31-1 {
			return fmt.Errorf("%s.int_value: %d is out of range", path, v)
		}
		c.SocketOptions = append(c.SocketOptions, SocketOption{int(o.GetLevel()), int(o.GetName()), int(o.GetIntValue())})
	}
	return nil
}

func (c *Cluster) parseTransport(m *clusterv3.Cluster) error {
	var err error
	if c.Socket, err = parseUpstreamTLS("transport_socket", m.GetTransportSocket()); err != nil {
		return err
	}
	for i, s := range m.GetTransportSocketMatches() {
		path := fmt.Sprintf("transport_socket_matches[%d]", i)
		tls, err := parseUpstreamTLS(path+".transport_socket", s.GetTransportSocket())
		if err != nil {
			return err
		}
		for k, v := range s.GetMatch().GetFields() {
			if v.GetStringValue() == "" {
				return unsupported(path+".match."+k, "anything but text")
			}
		}
		c.Sockets = append(c.Sockets, SocketMatch{Name: s.GetName(), Match: text(s.GetMatch()), TLS: tls})
	}
	return nil
}
