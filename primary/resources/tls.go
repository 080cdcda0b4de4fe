package resources

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/trust"
)

const tlsSocketName = "envoy.transport_sockets.tls"

// secret refers to a secret that the proxy itself serves.
func secret(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
			ApiType: corev3.ApiConfigSource_GRPC, TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: sdsCluster},
			}}},
		}},
	}}
}

// commonTLS is what both ends of the mesh's mTLS share: TLS 1.3, our ALPN, our
// SVID. There is no validation in it.
func commonTLS() *tlsv3.CommonTlsContext {
	return &tlsv3.CommonTlsContext{
		AlpnProtocols:                  []string{api.ALPN},
		TlsParams:                      &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3},
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{secret(certName)},
	}
}

// validating adds to c validation by the trust bundle, and by names where there
// are any, of which a certificate must bear one: no names let everybody of the
// bundle in.
func validating(c *tlsv3.CommonTlsContext, names []*tlsv3.SubjectAltNameMatcher) *tlsv3.CommonTlsContext {
	c.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
		CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: names},
			ValidationContextSdsSecretConfig: secret(rootName),
		},
	}
	return c
}

func altName(san tlsv3.SubjectAltNameMatcher_SanType, exact string) *tlsv3.SubjectAltNameMatcher {
	return &tlsv3.SubjectAltNameMatcher{SanType: san, Matcher: exactly(exact)}
}

// clientTLS is the transport socket to a service whose sidecars bear one of
// identities, of which there must be at least one.
func clientTLS(sni string, identities []trust.ID) *corev3.TransportSocket {
	var names []*tlsv3.SubjectAltNameMatcher
	for _, id := range identities {
		names = append(names, altName(tlsv3.SubjectAltNameMatcher_URI, id.String()))
	}
	return tlsSocket(pack(&tlsv3.UpstreamTlsContext{
		Sni:              sni,
		CommonTlsContext: validating(commonTLS(), names),
	}))
}

// serverTLS is the transport socket of a sidecar's inbound side: identities of
// the trust bundle come in, any of them or, where from is not nil, those of its
// clusters, which an issuer puts into each leaf.
func serverTLS(from []federation.ClusterName) *corev3.TransportSocket {
	var names []*tlsv3.SubjectAltNameMatcher
	for _, c := range from {
		names = append(names, altName(tlsv3.SubjectAltNameMatcher_DNS, string(c)+"."+api.ClusterZone))
	}
	return tlsSocket(pack(&tlsv3.DownstreamTlsContext{
		RequireClientCertificate: boolean(true),
		CommonTlsContext:         validating(commonTLS(), names),
	}))
}

// probeTLS is the transport socket behind which a gateway answers its prober,
// who needs no certificate.
func probeTLS() *corev3.TransportSocket {
	return tlsSocket(pack(&tlsv3.DownstreamTlsContext{CommonTlsContext: commonTLS()}))
}

func tlsSocket(config *anypb.Any) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       tlsSocketName,
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config},
	}
}
