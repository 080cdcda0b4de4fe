package load

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func (t *grpcTarget) ask(ctx context.Context) (Answer, int, error) {
	var header metadata.MD
	res, err := healthpb.NewHealthClient(t.conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Header(&header))
	answer := answerOfMetadata(header)
	if err != nil {
		return answer, 0, grpcError{err}
	}
	if res.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return answer, 0, fmt.Errorf("%w: health is %s", errAnswer, res.GetStatus())
	}
	return answer, 0, nil
}

func answerOfMetadata(md metadata.MD) Answer {
	first := func(key string) string {
		if v := md.Get(key); len(v) > 0 {
			return v[0]
		}
		return ""
	}
	return Answer{
		Service: first(HeaderService),
		Cluster: first(HeaderCluster),
		Pod:     first(HeaderPod),
		Version: first(HeaderVersion),
		Caller:  first(HeaderCaller),
	}
}

// grpcError makes the gRPC code readable as an error kind.
type grpcError struct{ error }

func (e grpcError) Timeout() bool { return status.Code(e.error) == codes.DeadlineExceeded }
func (e grpcError) kind() string {
	return "grpc-" + strings.ToLower(status.Code(e.error).String())
}
