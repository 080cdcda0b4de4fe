package config

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
)

// defaultInspectTimeout is Envoy's listener_filters_timeout.
const defaultInspectTimeout = 15 * time.Second

func parseListener(m *listenerv3.Listener) (*Listener, error) {
	l := &Listener{
		Name:              m.GetName(),
		Bind:              m.GetBindToPort() == nil || m.GetBindToPort().GetValue(),
		Direction:         direction(m.GetTrafficDirection()),
		UseOriginalDst:    m.GetUseOriginalDst().GetValue(),
		ContinueOnTimeout: m.GetContinueOnListenerFiltersTimeout(),
		source:            m,
	}
	if l.Name == "" {
		return nil, fmt.Errorf("name: missing")
	}
	var err error
	if l.Addresses, err = listenerAddresses(m); err != nil {
		return nil, err
	}
	if l.InspectTimeout, err = duration("listener_filters_timeout", m.GetListenerFiltersTimeout(), defaultInspectTimeout); err != nil {
		return nil, err
	}
	if err := l.parseFilters(m.GetListenerFilters()); err != nil {
		return nil, err
	}
	return l, l.parseChains(m)
}

func direction(d corev3.TrafficDirection) Direction {
	switch d {
	case corev3.TrafficDirection_INBOUND:
		return DirectionInbound
	case corev3.TrafficDirection_OUTBOUND:
		return DirectionOutbound
	default:
		return DirectionNone
	}
}

func listenerAddresses(m *listenerv3.Listener) ([]netip.AddrPort, error) {
	first, err := address("address", m.GetAddress())
	if err != nil {
		return nil, err
	}
	out := []netip.AddrPort{first}
	for i, a := range m.GetAdditionalAddresses() {
		next, err := address(fmt.Sprintf("additional_addresses[%d].address", i), a.GetAddress())
		if err != nil {
			return nil, err
		}
		out = append(out, next)
	}
	return out, nil
}

func (l *Listener) parseFilters(filters []*listenerv3.ListenerFilter) error {
	for i, f := range filters {
		path := fmt.Sprintf("listener_filters[%d].typed_config", i)
		m, err := unpack(path, f.GetTypedConfig())
		if err != nil {
			return err
		}
		switch m.(type) {
		case *originaldstv3.OriginalDst:
			l.OriginalDst = true
		case *tlsinspectorv3.TlsInspector:
			l.TLSInspector = true
		case *httpinspectorv3.HttpInspector:
			l.HTTPInspector = true
		default:
			return unsupported(path, "message "+f.GetTypedConfig().GetTypeUrl())
		}
	}
	return nil
}

func (l *Listener) parseChains(m *listenerv3.Listener) error {
	taken := matches{}
	for i, fc := range m.GetFilterChains() {
		path := fmt.Sprintf("filter_chains[%d]", i)
		c, err := parseChain(path, fc)
		if err != nil {
			return err
		}
		if err := taken.take(i, c.Match); err != nil {
			return fmt.Errorf("%s.filter_chain_match: %w", path, err)
		}
		l.Chains = append(l.Chains, c)
	}
	if fc := m.GetDefaultFilterChain(); fc != nil {
		c, err := parseChain("default_filter_chain", fc)
		if err != nil {
			return err
		}
		c.Match = Match{} // which Envoy ignores here
		l.Default = c
	}
	if len(l.Chains) == 0 && l.Default == nil {
		return fmt.Errorf("filter_chains: none")
	}
	return nil
}

func parseMatch(path string, m *listenerv3.FilterChainMatch) (Match, error) {
	out := Match{Transport: m.GetTransportProtocol(), Applications: m.GetApplicationProtocols()}
	if p := m.GetDestinationPort(); p != nil {
		if p.GetValue() == 0 || p.GetValue() > 65535 {
			return Match{}, fmt.Errorf("%s.destination_port: %d is out of range", path, p.GetValue())
		}
		out.Port = uint16(p.GetValue())
	}
	if t := out.Transport; t != "" && t != "tls" && t != "raw_buffer" {
		return Match{}, unsupported(path+".transport_protocol", t)
	}
	for i, name := range m.GetServerNames() {
		bare := strings.TrimPrefix(name, "*.")
		if bare == "" || strings.Contains(bare, "*") {
			return Match{}, unsupported(fmt.Sprintf("%s.server_names[%d]", path, i), name)
		}
		out.ServerNames = append(out.ServerNames, strings.ToLower(name))
	}
	var err error
	out.Sources, err = parseSources(path+".source_prefix_ranges", m.GetSourcePrefixRanges())
	return out, err
}
