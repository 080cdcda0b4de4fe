package identity

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	cav1 "github.com/isthmus-mesh/isthmus/api/ca"
	"github.com/isthmus-mesh/isthmus/trust"
)

const maxToken = 16 << 10 // bytes

// Conn is the connection to isthmusd, for xDS too: it bears the SVID where there
// is one, and the token with each call. Run closes it.
func (i *Identity) Conn() *grpc.ClientConn { return i.conn }

// Token reads the projected token, which kubelet renews in place.
func (i *Identity) Token() (string, error) {
	content, err := os.ReadFile(i.opts.TokenPath)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	token := bytes.TrimSpace(content)
	if len(token) == 0 || len(token) > maxToken || bytes.ContainsAny(token, " \r\n\t") {
		return "", fmt.Errorf("read token: %s does not hold one token", i.opts.TokenPath)
	}
	return string(token), nil
}

// dial makes the connection, which connects when it is first used.
func (i *Identity) dial() (*grpc.ClientConn, error) {
	tls := trust.ClientTLS(connSource{i}, trust.ClusterDNS(i.opts.Cluster), nil, trust.Only(i.opts.ControlPlaneID))
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(tls)),
		grpc.WithPerRPCCredentials(tokenCredentials{i}),
		grpc.WithNoProxy(),
		grpc.WithContextDialer(i.dialControl),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstDial, Multiplier: 2, Jitter: 0.2, MaxDelay: mostDial},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
	}
	return grpc.NewClient("passthrough:///"+i.opts.Discovery, options...) // each dial resolves the name anew
}

// signRemote has isthmusd sign a CSR.
func (i *Identity) signRemote(ctx context.Context, csr []byte) ([]*x509.Certificate, error) {
	response, err := cav1.NewCertificateServiceClient(i.conn).Sign(ctx, &cav1.SignRequest{Csr: csr, Cluster: i.opts.Own})
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for _, der := range response.GetChain() {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("parse signed certificate: %w", err)
		}
		chain = append(chain, cert)
	}
	return chain, nil
}

// connSource is what the connection to isthmusd uses: no certificate rather than
// one that has expired or was just refused, since there is the token.
type connSource struct{ *Identity }

func (s connSource) SVID() (trust.SVID, error) {
	svid, err := s.Identity.SVID()
	s.mu.Lock()
	useToken := s.useToken
	s.mu.Unlock()
	if useToken || errors.Is(err, ErrExpired) {
		return trust.SVID{}, trust.ErrNoSVID
	}
	return svid, err
}

// tokenCredentials sends the token with each call. isthmusd prefers the SVID; a
// token that cannot be read is left out, since the SVID may do.
type tokenCredentials struct{ identity *Identity }

func (c tokenCredentials) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := c.identity.Token()
	if err != nil {
		if _, missing := c.identity.SVID(); missing != nil {
			return nil, err
		}
		return nil, nil
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

func (tokenCredentials) RequireTransportSecurity() bool { return true }
