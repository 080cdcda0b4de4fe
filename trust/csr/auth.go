// Package csr is the certificate service of a cluster, and says who the caller
// of a gRPC method is: the xDS server asks the same question.
package csr

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/trust"
)

// What a Reviewer says of a token that it does not accept. Any other error means
// that the reviewing API server did not answer.
var (
	ErrRefused      = errors.New("token refused")
	ErrOtherCluster = errors.New("tokens of that cluster are not reviewed here")
)

// Reviewer has a service-account token reviewed by the API server of cluster and
// no other. Errors wrap ErrRefused or ErrOtherCluster where the answer is no.
// They must not contain the token.
type Reviewer interface {
	Review(ctx context.Context, cluster, token string) (Reviewed, error)
}

// Reviewed is what a token proved: an account, bound to a living pod.
type Reviewed struct {
	ID                              trust.ID
	Cluster, Namespace, Pod, PodUID string
	Node                            string
}

// Caller is who calls.
type Caller struct {
	ID      trust.ID
	Cluster string // the caller's; "" for an SVID that names none
	Pod     string // name; with a token only
	PodUID  string // with a token only
	Renewal bool   // proved by an SVID rather than a token
}

// key tells callers apart for limits: pods by token, accounts by SVID.
func (c Caller) key() string { return c.Cluster + " " + c.ID.String() + " " + c.PodUID }

// Authenticate returns who the caller of this gRPC context is: by the client
// certificate of its TLS connection, verified anew so that a long connection
// loses what its bundle or its certificate lost, or else by the bearer token of
// its metadata. The error is a gRPC status: UNAUTHENTICATED, PERMISSION_DENIED
// for a cluster that is not reviewed here, or UNAVAILABLE.
func Authenticate(ctx context.Context, reviewer Reviewer, bundle trust.Bundle) (Caller, error) {
	chain, err := peerChain(ctx)
	if err != nil {
		return Caller{}, err
	}
	var refused error
	if len(chain) > 0 {
		known, err := trust.VerifyPeer(chain, bundle, time.Now())
		if err == nil {
			return Caller{ID: known.ID, Cluster: known.Cluster, Renewal: true}, nil
		}
		refused = err
	}
	token, err := bearer(ctx)
	if err != nil {
		if refused != nil {
			err = refused
		}
		return Caller{}, status.Error(codes.Unauthenticated, err.Error())
	}
	return authenticateToken(ctx, reviewer, token)
}

// Claimed returns the cluster that the caller of this gRPC context says it is of,
// without believing it: by its certificate or else by its token, as Authenticate
// looks at them. "" where it says none.
func Claimed(ctx context.Context) string {
	if chain, err := peerChain(ctx); err == nil && len(chain) > 0 {
		for _, name := range chain[0].DNSNames {
			if cluster, ok := trust.ParseClusterDNS(name); ok {
				return cluster
			}
		}
	}
	token, err := bearer(ctx)
	if err != nil {
		return ""
	}
	cluster, err := tokenCluster(token, time.Now())
	if err != nil {
		return ""
	}
	return cluster
}

func authenticateToken(ctx context.Context, reviewer Reviewer, token string) (Caller, error) {
	cluster, err := tokenCluster(token, time.Now())
	if err != nil {
		return Caller{}, status.Error(codes.Unauthenticated, err.Error())
	}
	reviewed, err := reviewer.Review(ctx, cluster, token)
	if err != nil {
		return Caller{}, reviewStatus(ctx, err)
	}
	if reviewed.Cluster != cluster || reviewed.ID.IsZero() || reviewed.PodUID == "" {
		return Caller{}, status.Error(codes.Unauthenticated, "token proves no pod of its cluster")
	}
	return Caller{ID: reviewed.ID, Cluster: reviewed.Cluster, Pod: reviewed.Pod, PodUID: reviewed.PodUID}, nil
}

func reviewStatus(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, ErrOtherCluster):
		return status.Error(codes.PermissionDenied, err.Error())
	case errors.Is(err, ErrRefused):
		return status.Error(codes.Unauthenticated, err.Error())
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	}
	return status.Error(codes.Unavailable, fmt.Sprintf("token review: %v", err))
}

// peerChain returns the client's certificates, which the handshake saw but which
// are not to be believed yet. Without TLS nobody is anybody.
func peerChain(ctx context.Context) ([]*x509.Certificate, error) {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "no connection")
	}
	info, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok || !info.State.HandshakeComplete {
		return nil, status.Error(codes.Unauthenticated, "connection is not tls")
	}
	return info.State.PeerCertificates, nil
}

// sourceAddress is the caller's host, for limits before anything is proved.
func sourceAddress(ctx context.Context) string {
	from, ok := peer.FromContext(ctx)
	if !ok || from.Addr == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(from.Addr.String())
	if err != nil {
		return from.Addr.String()
	}
	return host
}
