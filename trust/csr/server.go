package csr

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cav1 "github.com/isthmus-mesh/isthmus/api/ca"
	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
)

// Options configures a Server.
type Options struct {
	Authority *ca.Authority // required
	Reviewer  Reviewer      // required
	Log       *slog.Logger  // nil discards
	Limits    Limits        // zero fields mean the defaults
	// Lives reports whether a pod of that identity is there, for callers that
	// prove themselves by an SVID alone: a token is reviewed, but a stolen key
	// could renew itself for ever. nil lets all renew.
	Lives   func(trust.ID) bool
	Metrics prometheus.Registerer // nil registers nothing
}

// Server is the certificate service of one cluster: it signs for the identity
// that the caller proved, whatever its CSR says.
type Server struct {
	cav1.UnimplementedCertificateServiceServer

	authority *ca.Authority
	reviewer  Reviewer
	log       *slog.Logger
	sources   *limiter // by address, before authentication
	callers   *limiter // by identity and pod, after it
	lives     func(trust.ID) bool
	answers   *prometheus.CounterVec
	signing   *gate
}

// NewServer returns the service. It panics where Authority or Reviewer is missing,
// which is a mistake in the program.
func NewServer(opts Options) *Server {
	if opts.Authority == nil || opts.Reviewer == nil {
		panic("csr.NewServer: no authority or no reviewer")
	}
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	lives := opts.Lives
	if lives == nil {
		lives = func(trust.ID) bool { return true }
	}
	limits := opts.Limits.withDefaults()
	return &Server{
		authority: opts.Authority,
		reviewer:  opts.Reviewer,
		log:       log,
		lives:     lives,
		answers:   newAnswers(opts.Metrics),
		sources:   newLimiter(limits.SourceRate, limits.SourceBurst, limits.Keys),
		callers:   newLimiter(limits.CallerRate, limits.CallerBurst, limits.Keys),
		signing:   newGate(limits.Signers, limits.Waiting),
	}
}

// Register adds the service to a gRPC server.
func (s *Server) Register(to *grpc.Server) { cav1.RegisterCertificateServiceServer(to, s) }

// Sign implements the service. Errors are gRPC statuses as ca.proto lists them,
// and RESOURCE_EXHAUSTED for a caller above its limit.
func (s *Server) Sign(ctx context.Context, request *cav1.SignRequest) (response *cav1.SignResponse, err error) {
	var caller Caller
	defer func() { s.answers.WithLabelValues(proof(caller), status.Code(err).String()).Inc() }()
	defer recoverTo(&err, s.log)
	if caller, err = s.Authenticate(ctx); err != nil {
		s.log.Log(ctx, refusalLevel(err), "certificate refused", "source", sourceAddress(ctx), "code", status.Code(err).String(), "err", err)
		return nil, err
	}
	chain, err := s.sign(ctx, caller, request)
	if err != nil {
		s.log.Log(ctx, refusalLevel(err), "certificate refused", "id", caller.ID.String(), "cluster", caller.Cluster, "pod", caller.Pod,
			"code", status.Code(err).String(), "err", err)
		return nil, err
	}
	s.log.Info("certificate signed", "id", caller.ID.String(), "cluster", caller.Cluster, "pod", caller.Pod,
		"renewal", caller.Renewal, "serial", chain[0].SerialNumber.Text(16), "not_after", chain[0].NotAfter.UTC().Format(time.RFC3339))
	return &cav1.SignResponse{Chain: ders(chain), Bundle: ders(s.authority.Bundle().Roots())}, nil
}

// Authenticate does what the function of that name does, and bounds what unknown
// callers of one address may cost the API server. All services of a port share
// the bound.
func (s *Server) Authenticate(ctx context.Context) (Caller, error) {
	if !s.sources.allow(sourceAddress(ctx), time.Now()) {
		return Caller{}, status.Error(codes.ResourceExhausted, "too many requests from this address")
	}
	return Authenticate(ctx, s.reviewer, s.authority.Bundle())
}

func (s *Server) sign(ctx context.Context, caller Caller, request *cav1.SignRequest) ([]*x509.Certificate, error) {
	if caller.Cluster != s.authority.Cluster() {
		return nil, status.Errorf(codes.PermissionDenied, "a workload of cluster %q gets no certificate of cluster %q",
			caller.Cluster, s.authority.Cluster())
	}
	if request.GetCluster() != caller.Cluster {
		return nil, status.Errorf(codes.PermissionDenied, "proved cluster %q, asked for another", caller.Cluster)
	}
	if caller.Renewal && !s.lives(caller.ID) {
		return nil, status.Error(codes.PermissionDenied, "no pod of this account is there: come with its token")
	}
	if !s.callers.allow(caller.key(), time.Now()) {
		return nil, status.Error(codes.ResourceExhausted, "too many requests from this workload")
	}
	// Renewals go first: they keep what serves serving.
	if err := s.signing.enter(ctx, caller.Renewal); err != nil {
		return nil, err
	}
	defer s.signing.leave()
	key, err := requestKey(request.GetCsr())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	chain, err := s.authority.Sign(key, caller.ID)
	if err != nil {
		return nil, signStatus(err)
	}
	return chain, nil
}

func signStatus(err error) error {
	switch {
	case errors.Is(err, ca.ErrKey):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, ca.ErrIdentity):
		return status.Error(codes.PermissionDenied, err.Error())
	case errors.Is(err, ca.ErrIssuer):
		return status.Error(codes.Unavailable, err.Error())
	}
	return status.Error(codes.Internal, "sign")
}

// refusalLevel keeps callers above their limit, whom nothing else bounds, from
// filling the log.
func refusalLevel(err error) slog.Level {
	if status.Code(err) == codes.ResourceExhausted {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// newAnswers counts requests by how they ended. A rise of refusals of renewals is
// an early warning: the workloads' certificates end within a day.
func newAnswers(registry prometheus.Registerer) *prometheus.CounterVec {
	answers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_certificate_requests_total", Help: "Requests for certificates, by what the caller proved itself with and the answer's code.",
	}, []string{"proof", "code"})
	if registry != nil {
		registry.MustRegister(answers)
	}
	return answers
}

func proof(caller Caller) string {
	switch {
	case caller.ID.IsZero():
		return "none"
	case caller.Renewal:
		return "svid"
	}
	return "token"
}

func ders(certs []*x509.Certificate) [][]byte {
	out := make([][]byte, 0, len(certs))
	for _, cert := range certs {
		out = append(out, cert.Raw)
	}
	return out
}

// recoverTo turns a panic into INTERNAL, so that one bad request ends itself and
// not the program.
func recoverTo(err *error, log *slog.Logger) {
	if panicked := recover(); panicked != nil {
		log.Error("panic in a call", "panic", panicked, "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "internal error")
	}
}

// RecoverUnary and RecoverStream return interceptors that do the same for every
// method of a server.
func RecoverUnary(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (_ any, err error) {
		defer recoverTo(&err, log)
		return handler(ctx, req)
	}
}

// RecoverStream: see RecoverUnary.
func RecoverStream(log *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
		defer recoverTo(&err, log)
		return handler(srv, stream)
	}
}
