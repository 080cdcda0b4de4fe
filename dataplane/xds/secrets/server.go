// Package secrets serves a proxy's certificate and roots to the Envoy beside it
// (SDS), by a unix socket that only the proxy's own user can open.
package secrets

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/trust"
)

// Names of the secrets, and their type.
const (
	Certificate = "default"
	Roots       = "ROOTCA"
	Type        = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
)

// Source is an identity that says when it changed.
type Source interface {
	trust.Source
	// Changed returns a channel that is closed at the next change.
	Changed() <-chan struct{}
}

// Server implements SDS in both forms.
type Server struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer
	source Source
	log    *slog.Logger
}

// New returns a server; a nil log discards.
func New(source Source, log *slog.Logger) (*Server, error) {
	if source == nil {
		return nil, errors.New("secrets: no source")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{source: source, log: log}, nil
}

// Register adds the server to s.
func (s *Server) Register(g *grpc.Server) { secretv3.RegisterSecretDiscoveryServiceServer(g, s) }

// A secret is one resource at its version.
type secret struct {
	name, version string
	body          *anypb.Any
}

// make returns the secret of that name; ok is false while there is none.
func (s *Server) make(name string) (sec secret, ok bool, err error) {
	m, err := s.message(name)
	if m == nil || err != nil {
		return secret{}, false, err
	}
	body := new(anypb.Any)
	if err := anypb.MarshalFrom(body, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		return secret{}, false, fmt.Errorf("encode secret %s: %w", name, err)
	}
	sum := sha256.Sum256(body.GetValue())
	return secret{name, hex.EncodeToString(sum[:8]), body}, true, nil
}

// message returns nil where the source has nothing yet, or the name is unknown.
func (s *Server) message(name string) (*tlsv3.Secret, error) {
	switch name {
	case Certificate:
		svid, err := s.source.SVID()
		if err != nil {
			return nil, nil //nolint:nilerr // it is sent as soon as there is one
		}
		key, err := svid.KeyPEM()
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", name, err)
		}
		return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(svid.ChainPEM()), PrivateKey: inline(key),
		}}}, nil
	case Roots:
		bundle, err := s.source.Bundle()
		if err != nil {
			return nil, nil //nolint:nilerr // the same
		}
		return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa: inline(bundle.PEM()),
		}}}, nil
	}
	return nil, nil
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

// A watch is what one stream asked for and was sent.
type watch struct {
	server *Server
	sent   map[string]string // name → version; "" before the first
}

// due returns what was asked for and has another version now.
func (w *watch) due() ([]secret, error) {
	var out []secret
	for name, version := range w.sent {
		sec, ok, err := w.server.make(name)
		if err != nil {
			return nil, err
		}
		if ok && sec.version != version {
			w.sent[name] = sec.version
			out = append(out, sec)
		}
	}
	return out, nil
}

// requests hands over what recv returns until it fails or ctx ends.
func requests[T any](ctx context.Context, recv func() (T, error)) (<-chan T, <-chan error) {
	out, failed := make(chan T), make(chan error, 1)
	go func() {
		for {
			r, err := recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case out <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, failed
}
