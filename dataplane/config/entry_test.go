package config

import (
	"strconv"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	statev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	setstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	sniclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_cluster/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3proto "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// filtersOf is a listener with these before its tcp_proxy.
func filtersOf(t testing.TB, before ...proto.Message) *listenerv3.Listener {
	l := tcpListener(t)
	var all []*listenerv3.Filter
	for _, m := range before {
		all = append(all, &listenerv3.Filter{Name: "f", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, m)}})
	}
	l.FilterChains[0].Filters = append(all, l.FilterChains[0].Filters...)
	return l
}

func inline(text string) *corev3.SubstitutionFormatString {
	return &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{
		TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: text}},
	}}
}

func setState(key string, format *corev3.SubstitutionFormatString, change ...func(*statev3.FilterStateValue)) *setstatev3.Config {
	v := &statev3.FilterStateValue{Key: &statev3.FilterStateValue_ObjectKey{ObjectKey: key}, Value: &statev3.FilterStateValue_FormatString{FormatString: format}}
	for _, c := range change {
		c(v)
	}
	return &setstatev3.Config{OnNewConnection: []*statev3.FilterStateValue{v}}
}

const portFormat = "entry|%DOWNSTREAM_LOCAL_PORT%"

// wants holds what Check says of each listener; "" is accepted.
type wants []struct {
	want string
	l    *listenerv3.Listener
}

func (w wants) check(t *testing.T) {
	t.Helper()
	for i, c := range w {
		err := Check(TypeListener, "l", c.l)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("case %d: got %v, want %q", i, err, c.want)
		}
	}
}

func TestCheckSetFilterState(t *testing.T) {
	twice := setState(stateCluster, inline(portFormat))
	twice.OnNewConnection = append(twice.OnNewConnection, twice.OnNewConnection[0])
	later := &setstatev3.Config{OnDownstreamData: setState(stateCluster, inline(portFormat)).OnNewConnection}
	wants{
		{"", filtersOf(t, setState(stateCluster, inline(portFormat)))},
		{"", filtersOf(t, setState(stateCluster, inline("plain")))},
		{"object_key: envoy.string: not implemented", filtersOf(t, setState("envoy.string", inline(portFormat)))},
		{"object_key: envoy.upstream.dynamic_port", filtersOf(t, setState("envoy.upstream.dynamic_port", inline(portFormat)))},
		{"factory_key: not implemented", filtersOf(t, setState(stateCluster, inline("a"), func(v *statev3.FilterStateValue) { v.FactoryKey = stateCluster }))},
		{"skip_if_empty: not implemented", filtersOf(t, setState(stateCluster, inline("a"), func(v *statev3.FilterStateValue) { v.SkipIfEmpty = true }))},
		{"shared_with_upstream: not implemented", filtersOf(t, setState(stateCluster, inline("a"), func(v *statev3.FilterStateValue) { v.SharedWithUpstream = 1 }))},
		{"on_new_connection: anything but one value", filtersOf(t, twice)},
		{"on_downstream_data: not implemented", filtersOf(t, later)},
		{"on_new_connection: anything but one value", filtersOf(t, &setstatev3.Config{})},
		{"on_new_connection: anything but one value", filtersOf(t, setState(stateCluster, inline("a")), setState(stateCluster, inline("b")))},
		{"both sni_cluster and set_filter_state", filtersOf(t, &sniclusterv3.SniCluster{}, setState(stateCluster, inline("a")))},
		{"text_format: not implemented", filtersOf(t, setState(stateCluster, &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormat{TextFormat: "a"}}))},
		{"filename: not implemented", filtersOf(t, setState(stateCluster, &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{
			TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: "/etc/passwd"}},
		}}))},
		{"not implemented", filtersOf(t, setState(stateCluster, inline("%DOWNSTREAM_REMOTE_PORT%")))},
	}.check(t)
	l := filtersOf(t, setState(stateCluster, inline("a")))
	l.FilterChains[0].Filters[1] = httpListener(t, durationpb.New(0)).FilterChains[0].Filters[0]
	wants{{"without tcp_proxy", l}}.check(t)
}

func TestClusterFormat(t *testing.T) {
	for text, want := range map[string]string{
		"plain": "plain", portFormat: "entry|20001", operatorPort: "20001", operatorPort + operatorPort: "2000120001", "a" + operatorPort + "b": "a20001b",
	} {
		f, err := parseClusterFormat(text)
		if err != nil || f.Name(20001) != want {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for _, bad := range []string{
		"", "%", "%%", "100%", "%DOWNSTREAM_LOCAL_PORT", "DOWNSTREAM_LOCAL_PORT%", "%downstream_local_port%", "%DOWNSTREAM_LOCAL_PORT()%", "%DOWNSTREAM_LOCAL_PORT:3%",
		"%" + operatorPort, operatorPort + "%", "%START_TIME%", "% DOWNSTREAM_LOCAL_PORT%", "a\nb", strings.Repeat("a", maxFormat+1),
	} {
		if f, err := parseClusterFormat(bad); err == nil {
			t.Errorf("%q: accepted as %v", bad, f)
		}
	}
}

// What is accepted is plain text around the port, and differs by port where the
// port is in it.
func FuzzClusterFormat(f *testing.F) {
	for _, seed := range []string{portFormat, "", "%%", "%DOWNSTREAM_LOCAL_PORT%%DOWNSTREAM_LOCAL_PORT%", "%REQ(A)%", "a%b"} {
		f.Add(seed, uint16(20001))
	}
	f.Fuzz(func(t *testing.T, text string, port uint16) {
		format, err := parseClusterFormat(text)
		if err != nil {
			return
		}
		if got, want := format.Name(port), strings.ReplaceAll(text, operatorPort, strconv.Itoa(int(port))); got != want || got == "" || strings.Contains(got, "%") {
			t.Errorf("%q gave %q, want %q", text, got, want)
		}
	})
}

func name(exact string) *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_Authenticated_{Authenticated: &rbacv3.Principal_Authenticated{
		PrincipalName: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: exact}},
	}}}
}

func rbac(change func(*rbacfilterv3.RBAC, *rbacv3.Policy)) *rbacfilterv3.RBAC {
	p := &rbacv3.Policy{Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_Any{Any: true}}}, Principals: []*rbacv3.Principal{name("spiffe://a/ns/b/sa/c")}}
	m := &rbacfilterv3.RBAC{StatPrefix: "p", Rules: &rbacv3.RBAC{Policies: map[string]*rbacv3.Policy{"callers": p}}}
	change(m, p)
	return m
}

func TestCheckRBAC(t *testing.T) {
	principal := func(p *rbacv3.Principal) *listenerv3.Listener {
		return filtersOf(t, rbac(func(_ *rbacfilterv3.RBAC, policy *rbacv3.Policy) { policy.Principals[0] = p }))
	}
	with := func(change func(*rbacfilterv3.RBAC, *rbacv3.Policy)) *listenerv3.Listener {
		return filtersOf(t, rbac(change))
	}
	one := &rbacv3.Principal_Set{Ids: []*rbacv3.Principal{name("a")}}
	prefix := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "spiffe://"}}
	wants{
		{"", with(func(*rbacfilterv3.RBAC, *rbacv3.Policy) {})},
		{"", principal(&rbacv3.Principal{Identifier: &rbacv3.Principal_Any{Any: true}})},
		{"", principal(&rbacv3.Principal{Identifier: &rbacv3.Principal_NotId{NotId: name("a")}})},
		{"", principal(&rbacv3.Principal{Identifier: &rbacv3.Principal_AndIds{AndIds: one}})},
		{"", principal(&rbacv3.Principal{Identifier: &rbacv3.Principal_OrIds{OrIds: one}})},
		{"rules: missing", with(func(m *rbacfilterv3.RBAC, _ *rbacv3.Policy) { m.Rules = nil })},
		{"rules.action: value DENY: not implemented", with(func(m *rbacfilterv3.RBAC, _ *rbacv3.Policy) { m.Rules.Action = rbacv3.RBAC_DENY })},
		{"rules.action: value LOG: not implemented", with(func(m *rbacfilterv3.RBAC, _ *rbacv3.Policy) { m.Rules.Action = rbacv3.RBAC_LOG })},
		{"shadow_rules: not implemented", with(func(m *rbacfilterv3.RBAC, _ *rbacv3.Policy) { m.ShadowRules = &rbacv3.RBAC{} })},
		{"enforcement_type", with(func(m *rbacfilterv3.RBAC, _ *rbacv3.Policy) { m.EnforcementType = rbacfilterv3.RBAC_CONTINUOUS })},
		{"delay_deny: not implemented", with(func(m *rbacfilterv3.RBAC, _ *rbacv3.Policy) { m.DelayDeny = durationpb.New(1) })},
		{"permissions[0].destination_port: not implemented", with(func(_ *rbacfilterv3.RBAC, p *rbacv3.Policy) {
			p.Permissions[0] = &rbacv3.Permission{Rule: &rbacv3.Permission_DestinationPort{DestinationPort: 1}}
		})},
		{"principals[0].remote_ip: not implemented", principal(&rbacv3.Principal{Identifier: &rbacv3.Principal_RemoteIp{RemoteIp: &corev3.CidrRange{}}})},
		{"prefix: not implemented", principal(&rbacv3.Principal{Identifier: &rbacv3.Principal_Authenticated_{Authenticated: &rbacv3.Principal_Authenticated{PrincipalName: prefix}}})},
		{"principal_name: anything but", principal(&rbacv3.Principal{Identifier: &rbacv3.Principal_Authenticated_{Authenticated: &rbacv3.Principal_Authenticated{}}})},
		{"principal_name: anything but", principal(name("CN=somebody"))},
		{"principal_name: anything but", principal(&rbacv3.Principal{Identifier: &rbacv3.Principal_NotId{NotId: name("")}})},
		{"invalid", principal(&rbacv3.Principal{})},
		{"invalid", principal(&rbacv3.Principal{Identifier: &rbacv3.Principal_AndIds{AndIds: &rbacv3.Principal_Set{}}})},
	}.check(t)
}

func clients(t testing.TB, require bool, kind tlsv3proto.SubjectAltNameMatcher_SanType, m *matcherv3.StringMatcher) *listenerv3.Listener {
	l := tcpListener(t)
	l.FilterChains[0].TransportSocket = &corev3.TransportSocket{Name: "tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(t, &tlsv3proto.DownstreamTlsContext{
		RequireClientCertificate: wrapperspb.Bool(require),
		CommonTlsContext: &tlsv3proto.CommonTlsContext{
			TlsCertificateSdsSecretConfigs: []*tlsv3proto.SdsSecretConfig{{Name: "default"}},
			ValidationContextType: &tlsv3proto.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: &tlsv3proto.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext:         &tlsv3proto.CertificateValidationContext{MatchTypedSubjectAltNames: []*tlsv3proto.SubjectAltNameMatcher{{SanType: kind, Matcher: m}}},
				ValidationContextSdsSecretConfig: &tlsv3proto.SdsSecretConfig{Name: "ROOTCA"},
			}},
		},
	})}}
	return l
}

func TestCheckClients(t *testing.T) {
	exact := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "east.clusters.isthmus.internal"}}
	suffix := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: ".clusters.isthmus.internal"}}
	folded := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "a"}, IgnoreCase: true}
	wants{
		{"", clients(t, true, tlsv3proto.SubjectAltNameMatcher_DNS, exact)},
		{"", clients(t, true, tlsv3proto.SubjectAltNameMatcher_URI, exact)},
		{"without a certificate would be let in", clients(t, false, tlsv3proto.SubjectAltNameMatcher_DNS, exact)},
		{"suffix: not implemented", clients(t, true, tlsv3proto.SubjectAltNameMatcher_DNS, suffix)},
		{"ignore_case: not implemented", clients(t, true, tlsv3proto.SubjectAltNameMatcher_DNS, folded)},
		{"san_type: value EMAIL", clients(t, true, tlsv3proto.SubjectAltNameMatcher_EMAIL, exact)},
		{"invalid", clients(t, true, tlsv3proto.SubjectAltNameMatcher_SAN_TYPE_UNSPECIFIED, exact)},
	}.check(t)
}

func TestCheckMatchAndDuration(t *testing.T) {
	match := func(ranges ...[]*corev3.CidrRange) *listenerv3.Listener {
		l := tcpListener(t)
		filters := l.FilterChains[0].Filters
		l.FilterChains = nil
		for _, r := range ranges {
			l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{FilterChainMatch: &listenerv3.FilterChainMatch{SourcePrefixRanges: r}, Filters: filters})
		}
		return l
	}
	life := func(m *tcpproxyv3.TcpProxy) *listenerv3.Listener {
		m.StatPrefix, m.ClusterSpecifier = "p", &tcpproxyv3.TcpProxy_Cluster{Cluster: "c"}
		l := tcpListener(t)
		l.FilterChains[0].Filters[0].ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, m)}
		return l
	}
	wants{
		{"", match([]*corev3.CidrRange{cidr("10.0.0.0", 8)}, []*corev3.CidrRange{cidr("10.0.0.0", 16)}, nil)},
		{"the same as that of filter_chains[0] in port 0", match([]*corev3.CidrRange{cidr("10.0.0.0", 8)}, []*corev3.CidrRange{cidr("11.0.0.0", 8), cidr("10.9.0.0", 8)})},
		{"filter_chain_match.source_prefix_ranges[0].prefix_len", match([]*corev3.CidrRange{cidr("10.0.0.0", 64)})},
		{"", life(&tcpproxyv3.TcpProxy{MaxDownstreamConnectionDuration: durationpb.New(1e9)})},
		{"invalid", life(&tcpproxyv3.TcpProxy{MaxDownstreamConnectionDuration: durationpb.New(0)})},
		{"jitter_percentage: not implemented", life(&tcpproxyv3.TcpProxy{MaxDownstreamConnectionDurationJitterPercentage: &typev3.Percent{Value: 1}})},
	}.check(t)
	l := match([]*corev3.CidrRange{cidr("10.0.0.0", 8)})
	l.FilterChains[0].FilterChainMatch.DirectSourcePrefixRanges = l.FilterChains[0].FilterChainMatch.SourcePrefixRanges
	wants{{"direct_source_prefix_ranges: not implemented", l}}.check(t)
}
