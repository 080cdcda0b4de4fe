package config

import (
	"fmt"
	"slices"
	"strings"

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
		clients, err := parseClients(at, m)
		return &DownstreamTLS{ALPN: m.GetCommonTlsContext().GetAlpnProtocols(), RequireClient: m.GetRequireClientCertificate().GetValue(), Clients: clients}, err
	default:
		return nil, unsupported(path+".typed_config", "message "+ts.GetTypedConfig().GetTypeUrl())
	}
}

// sanPath leads from a TLS context to the names that the peer may prove.
const sanPath = ".combined_validation_context.default_validation_context.match_typed_subject_alt_names"

// sans returns the names that the peer may prove.
func sans(c *tlsv3proto.CommonTlsContext) []*tlsv3proto.SubjectAltNameMatcher {
	return c.GetCombinedValidationContext().GetDefaultValidationContext().GetMatchTypedSubjectAltNames()
}

// parseClients reads one of which names a client must prove.
func parseClients(path string, m *tlsv3proto.DownstreamTlsContext) ([]SAN, error) {
	var out []SAN
	for i, san := range sans(m.GetCommonTlsContext()) {
		name, at := san.GetMatcher().GetExact(), fmt.Sprintf("%s%s[%d]", path, sanPath, i)
		if name == "" {
			return nil, unsupported(at+".matcher", "anything but exact")
		}
		switch san.GetSanType() {
		case tlsv3proto.SubjectAltNameMatcher_DNS:
			out = append(out, SAN{DNS: true, Name: strings.ToLower(name)})
		case tlsv3proto.SubjectAltNameMatcher_URI:
			out = append(out, SAN{Name: name})
		default:
			return nil, unsupported(at+".san_type", san.GetSanType().String())
		}
	}
	if len(out) > 0 && !m.GetRequireClientCertificate().GetValue() {
		return nil, fmt.Errorf("%s%s: a client without a certificate would be let in", path, sanPath)
	}
	return out, nil
}

// Admits reports whether a verified client proves one of the names, if any is
// asked for.
func (t *DownstreamTLS) Admits(peer trust.Peer) bool {
	return len(t.Clients) == 0 || slices.ContainsFunc(t.Clients, func(san SAN) bool {
		if !san.DNS {
			return san.Name == peer.ID.String()
		}
		return slices.ContainsFunc(peer.Leaf.DNSNames, func(name string) bool { return strings.EqualFold(name, san.Name) })
	})
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
	at := path + ".common_tls_context" + sanPath
	for i, san := range sans(m.GetCommonTlsContext()) {
		if san.GetSanType() != tlsv3proto.SubjectAltNameMatcher_URI {
			return nil, unsupported(fmt.Sprintf("%s[%d].san_type", at, i), san.GetSanType().String())
		}
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
