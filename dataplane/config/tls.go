package config

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3proto "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/isthmus-mesh/isthmus/trust"
)

// Names under which the data plane knows its own SVID and trust bundle.
const (
	secretSVID   = "default"
	secretBundle = "ROOTCA"
)

func parseDownstreamTLS(path string, ts *corev3.TransportSocket) (*DownstreamTLS, error) {
	if ts == nil {
		return nil, nil
	}
	m, err := unpack(path+".typed_config", ts.GetTypedConfig())
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *rawv3.RawBuffer:
		return nil, nil
	case *tlsv3proto.DownstreamTlsContext:
		at := path + ".typed_config.common_tls_context"
		if err := checkCommonTLS(at, m.GetCommonTlsContext()); err != nil {
			return nil, err
		}
		if sans := m.GetCommonTlsContext().GetCombinedValidationContext().GetDefaultValidationContext().GetMatchTypedSubjectAltNames(); len(sans) > 0 {
			return nil, unsupported(at+".combined_validation_context.default_validation_context.match_typed_subject_alt_names", "on a listener")
		}
		return &DownstreamTLS{ALPN: m.GetCommonTlsContext().GetAlpnProtocols(), RequireClient: m.GetRequireClientCertificate().GetValue()}, nil
	default:
		return nil, unsupported(path+".typed_config", "message "+ts.GetTypedConfig().GetTypeUrl())
	}
}

// checkCommonTLS holds a TLS context to our own SVID and bundle.
func checkCommonTLS(path string, c *tlsv3proto.CommonTlsContext) error {
	certs := c.GetTlsCertificateSdsSecretConfigs()
	if len(certs) != 1 || certs[0].GetName() != secretSVID {
		return unsupported(path+".tls_certificate_sds_secret_configs", `anything but "default"`)
	}
	bundle := c.GetValidationContextSdsSecretConfig()
	if v := c.GetCombinedValidationContext(); v != nil {
		bundle = v.GetValidationContextSdsSecretConfig()
	}
	if bundle == nil && c.GetCombinedValidationContext() == nil {
		return nil // no client certificate is looked at
	}
	if bundle.GetName() != secretBundle {
		return unsupported(path, `validation by anything but "ROOTCA"`)
	}
	return nil
}

func parseUpstreamTLS(path string, ts *corev3.TransportSocket) (*UpstreamTLS, error) {
	if ts == nil {
		return nil, nil
	}
	m, err := unpack(path+".typed_config", ts.GetTypedConfig())
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *rawv3.RawBuffer:
		return nil, nil
	case *tlsv3proto.UpstreamTlsContext:
		return upstreamTLS(path+".typed_config", m)
	default:
		return nil, unsupported(path+".typed_config", "message "+ts.GetTypedConfig().GetTypeUrl())
	}
}

func upstreamTLS(path string, m *tlsv3proto.UpstreamTlsContext) (*UpstreamTLS, error) {
	if err := checkCommonTLS(path+".common_tls_context", m.GetCommonTlsContext()); err != nil {
		return nil, err
	}
	out := &UpstreamTLS{ServerName: m.GetSni(), ALPN: m.GetCommonTlsContext().GetAlpnProtocols()}
	at := path + ".common_tls_context.combined_validation_context.default_validation_context.match_typed_subject_alt_names"
	for i, san := range m.GetCommonTlsContext().GetCombinedValidationContext().GetDefaultValidationContext().GetMatchTypedSubjectAltNames() {
		id, err := trust.ParseID(san.GetMatcher().GetExact())
		if err != nil {
			return nil, fmt.Errorf("%s[%d].matcher.exact: %w", at, i, err)
		}
		out.Peers = append(out.Peers, id)
	}
	if len(out.Peers) == 0 {
		return nil, fmt.Errorf("%s: empty would mean anybody", at)
	}
	return out, nil
}
