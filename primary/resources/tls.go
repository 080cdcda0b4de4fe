package resources

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/api"
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

// validating adds to c validation by the trust bundle, and by the identities
// where there are any: no identities let everybody of the bundle in.
func validating(c *tlsv3.CommonTlsContext, identities []trust.ID) *tlsv3.CommonTlsContext {
	context := new(tlsv3.CertificateValidationContext)
	for _, id := range identities {
		context.MatchTypedSubjectAltNames = append(context.MatchTypedSubjectAltNames, &tlsv3.SubjectAltNameMatcher{
			SanType: tlsv3.SubjectAltNameMatcher_URI,
			Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: id.String()}},
		})
	}
	c.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
		CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext:         context,
			ValidationContextSdsSecretConfig: secret(rootName),
		},
	}
	return c
}

// clientTLS is the transport socket to a service whose sidecars bear one of
// identities, of which there must be at least one.
func clientTLS(sni string, identities []trust.ID) *corev3.TransportSocket {
	return tlsSocket(pack(&tlsv3.UpstreamTlsContext{
		Sni:              sni,
		CommonTlsContext: validating(commonTLS(), identities),
	}))
}

// serverTLS is the transport socket of a sidecar's inbound side: any identity
// of the trust bundle comes in.
func serverTLS() *corev3.TransportSocket {
	return tlsSocket(pack(&tlsv3.DownstreamTlsContext{
		RequireClientCertificate: boolean(true),
		CommonTlsContext:         validating(commonTLS(), nil),
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
