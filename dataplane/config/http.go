package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

// Envoy's defaults, and a bound on attempts of our own.
const (
	defaultTCPIdle    = time.Hour
	defaultStreamIdle = 5 * time.Minute
	maxAttempts       = 16
)

func parseHTTPManager(path string, m *hcmv3.HttpConnectionManager) (*HTTPManager, error) {
	h := &HTTPManager{
		SetXFCC:       m.GetForwardClientCertDetails() == hcmv3.HttpConnectionManager_SANITIZE_SET,
		XFCCURI:       m.GetSetCurrentClientCertDetails().GetUri(),
		XFCCDNS:       m.GetSetCurrentClientCertDetails().GetDns(),
		NormalizePath: m.GetNormalizePath().GetValue(),
		ServerName:    m.GetServerName(),
		PassServer:    m.GetServerHeaderTransformation() == hcmv3.HttpConnectionManager_PASS_THROUGH,
		RequestID:     m.GetGenerateRequestId() == nil || m.GetGenerateRequestId().GetValue(),
	}
	if m.GetUseRemoteAddress().GetValue() {
		return nil, unsupported(path+".use_remote_address", "true")
	}
	var err error
	if h.IdleTimeout, err = duration(path+".stream_idle_timeout", m.GetStreamIdleTimeout(), defaultStreamIdle); err != nil {
		return nil, err
	}
	if err := checkHTTPFilters(path, m.GetHttpFilters()); err != nil {
		return nil, err
	}
	if err := h.parseUpgrades(path, m.GetUpgradeConfigs()); err != nil {
		return nil, err
	}
	return h, h.parseRouting(path, m)
}

func checkHTTPFilters(path string, filters []*hcmv3.HttpFilter) error {
	if len(filters) != 1 {
		return fmt.Errorf("%s.http_filters: must be the router alone", path)
	}
	at := path + ".http_filters[0].typed_config"
	m, err := unpack(at, filters[0].GetTypedConfig())
	if err != nil {
		return err
	}
	if _, ok := m.(*routerv3.Router); !ok {
		return unsupported(at, "message "+filters[0].GetTypedConfig().GetTypeUrl())
	}
	return nil
}

func (h *HTTPManager) parseUpgrades(path string, upgrades []*hcmv3.HttpConnectionManager_UpgradeConfig) error {
	for i, u := range upgrades {
		name := strings.ToLower(u.GetUpgradeType())
		if name == "" || name == "connect" || name == "connect-udp" {
			return unsupported(fmt.Sprintf("%s.upgrade_configs[%d].upgrade_type", path, i), u.GetUpgradeType())
		}
		if u.GetEnabled() == nil || u.GetEnabled().GetValue() {
			h.Upgrades = append(h.Upgrades, name)
		}
	}
	slices.Sort(h.Upgrades)
	return nil
}

func (h *HTTPManager) parseRouting(path string, m *hcmv3.HttpConnectionManager) error {
	if rc := m.GetRouteConfig(); rc != nil {
		routes, err := parseRoutes(rc)
		if err != nil {
			return fmt.Errorf("%s.route_config: %w", path, err)
		}
		h.Routes = routes
		return nil
	}
	h.RouteName = m.GetRds().GetRouteConfigName()
	if h.RouteName == "" {
		return fmt.Errorf("%s: neither rds nor route_config", path)
	}
	if m.GetRds().GetConfigSource().GetAds() == nil {
		return unsupported(path+".rds.config_source", "anything but ads")
	}
	return nil
}
