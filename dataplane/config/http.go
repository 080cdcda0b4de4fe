package config

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

// Envoy's defaults, and a bound on attempts of our own.
const (
	defaultTCPIdle = time.Hour
	maxAttempts    = 16
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
	if t := m.GetStreamIdleTimeout(); t == nil || t.AsDuration() != 0 { // absent is five minutes
		return nil, unsupported(path+".stream_idle_timeout", "anything but 0s")
	}
	if err := checkHTTPFilters(path, m.GetHttpFilters()); err != nil {
		return nil, err
	}
	if err := h.parseUpgrades(path, m.GetUpgradeConfigs()); err != nil {
		return nil, err
	}
	var err error
	if h.Unreached, err = parseLocalReply(path+".local_reply_config", m.GetLocalReplyConfig()); err != nil {
		return nil, err
	}
	return h, h.parseRouting(path, m)
}

// parseLocalReply takes a header for answers with the flag UF, and nothing else.
func parseLocalReply(path string, m *hcmv3.LocalReplyConfig) (Header, error) {
	if m == nil {
		return Header{}, nil
	}
	if len(m.GetMappers()) != 1 {
		return Header{}, unsupported(path+".mappers", fmt.Sprintf("%d of them", len(m.GetMappers())))
	}
	mapper := m.GetMappers()[0]
	flags, headers := mapper.GetFilter().GetResponseFlagFilter().GetFlags(), mapper.GetHeadersToAdd()
	if !slices.Equal(flags, []string{"UF"}) {
		return Header{}, unsupported(path+".mappers[0].filter", fmt.Sprintf("response flags %v", flags))
	}
	if len(headers) != 1 {
		return Header{}, unsupported(path+".mappers[0].headers_to_add", fmt.Sprintf("%d of them", len(headers)))
	}
	h := headers[0].GetHeader()
	return Header{Name: http.CanonicalHeaderKey(h.GetKey()), Value: h.GetValue()}, nil
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
