package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/isthmus-mesh/isthmus/drill/load"
)

// newHealthServer returns a gRPC health service that says in its header metadata
// who answers and who called.
func newHealthServer(s self) *grpc.Server {
	srv := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		if err := grpc.SetHeader(ctx, s.metadata(ctx)); err != nil {
			return nil, err
		}
		return handle(ctx, req)
	}))
	h := health.NewServer()
	h.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(srv, h)
	return srv
}

func (s self) metadata(ctx context.Context) metadata.MD {
	in, _ := metadata.FromIncomingContext(ctx)
	return metadata.Pairs(
		load.HeaderService, s.Service,
		load.HeaderCluster, s.Cluster,
		load.HeaderPod, s.Pod,
		load.HeaderVersion, s.Version,
		load.HeaderCaller, callerOf(first(in.Get(headerClientCert))).ID,
	)
}
