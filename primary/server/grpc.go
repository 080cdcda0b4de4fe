package server

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/primary/ads"
	"github.com/isthmus-mesh/isthmus/trust/csr"
)

// Limits of the discovery port.
const (
	maxMessage       = 4 << 20          // bytes received at once
	maxStreams       = 100              // on one connection
	maxConnections   = 20_000           // at once
	handshakeTimeout = 10 * time.Second // until a connection speaks HTTP/2
	connectionAge    = 30 * time.Minute // grpc spreads it by a tenth either way
	connectionGrace  = 10 * time.Second
)

// newGRPC returns the server of the discovery port. Clients may come without a
// certificate, to get their first one; each service asks who calls.
func newGRPC(config *tls.Config, log *slog.Logger) *grpc.Server {
	return grpc.NewServer(
		grpc.Creds(credentials.NewTLS(config)),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(64<<10),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: connectionAge, MaxConnectionAgeGrace: connectionGrace, Time: 30 * time.Second, Timeout: 10 * time.Second,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(csr.RecoverUnary(log)),
		grpc.StreamInterceptor(csr.RecoverStream(log)),
	)
}

// authenticate returns how xDS streams prove who they are. Only proxies of this
// cluster are served: others have a control plane of their own.
func authenticate(service *csr.Server, cluster string) func(context.Context) (ads.Caller, error) {
	return func(ctx context.Context) (ads.Caller, error) {
		caller, err := service.Authenticate(ctx)
		if err != nil {
			return ads.Caller{}, err
		}
		if caller.Cluster != cluster {
			return ads.Caller{}, status.Errorf(codes.PermissionDenied, "proxies of cluster %q are not served by cluster %q", caller.Cluster, cluster)
		}
		return ads.Caller{ID: caller.ID, Cluster: caller.Cluster, Pod: caller.Pod}, nil
	}
}
