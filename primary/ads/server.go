// Package ads serves aggregated discovery, delta and state-of-the-world, to
// proxies that proved who they are. It sends what docs/xds.md says, in the
// order and with the manners that are written there.
package ads

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/cache"
)

// Options configures a Server.
type Options struct {
	// Authenticate returns who opened the stream of a context; required. Its
	// error should carry a gRPC status, and is taken for Unauthenticated where
	// it does not.
	Authenticate func(ctx context.Context) (Caller, error)
	// SendTimeout bounds how long a client may leave a response unread, and
	// AnswerTimeout how long it may leave one unanswered, before its stream is
	// cut. 0 means 10 s and 30 s.
	SendTimeout, AnswerTimeout time.Duration
	Log                        *slog.Logger          // nil discards
	Metrics                    prometheus.Registerer // nil registers nothing
}

// Server is the discovery service. Streams wait until the first Update.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	opts    Options
	log     *slog.Logger
	metrics *metrics
	cache   *cache.Cache

	mu       sync.Mutex
	snapshot *federation.Snapshot
	ready    chan struct{} // closed by the first Update
	draining chan struct{} // closed by Drain
	drained  bool
	streams  map[*stream]bool
	served   sync.WaitGroup // streams
}

// New returns a server that has nothing to serve yet.
func New(opts Options) (*Server, error) {
	if opts.Authenticate == nil {
		return nil, errors.New("ads: Authenticate is required")
	}
	if opts.SendTimeout == 0 {
		opts.SendTimeout = 10 * time.Second
	}
	if opts.AnswerTimeout == 0 {
		opts.AnswerTimeout = 30 * time.Second
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	c := cache.New(opts.Log)
	m, err := newMetrics(opts.Metrics, func() int { return len(c.Groups()) })
	if err != nil {
		return nil, err
	}
	return &Server{
		opts: opts, log: opts.Log, metrics: m, cache: c,
		ready: make(chan struct{}), draining: make(chan struct{}), streams: map[*stream]bool{},
	}, nil
}

// Register adds the service to g, before g serves.
func (s *Server) Register(g *grpc.Server) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
}

// Update serves snapshot from now on. Proxies that it changes something for are
// sent that at once; holding back under churn is the caller's business. The
// snapshot must not be nil. Calls must not overlap.
func (s *Server) Update(snapshot *federation.Snapshot) {
	s.cache.Update(snapshot)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.snapshot == nil {
		close(s.ready)
	}
	s.snapshot = snapshot
	for st := range s.streams {
		if st.moved(snapshot) {
			st.end(errMoved)
		}
	}
}

// Serve tells which remotes the control plane of primary serves; see cache.Cache.
func (s *Server) Serve(primary federation.ClusterName, remotes []federation.ClusterName) {
	s.cache.Serve(primary, remotes)
}

// Problems returns which services cannot be expressed in xDS, and why.
func (s *Server) Problems() map[federation.ServiceKey]string { return s.cache.Problems() }

// Run blocks until ctx ends, and then drains for at most 5 s.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return s.Drain(ctx)
}

// Drain refuses new streams and ends the open ones, so that clients move to
// another replica, and returns when the last has ended. It can be called again.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	if !s.drained {
		s.drained = true
		close(s.draining)
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.served.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// enter counts a stream in, unless the server drains.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drained {
		return false
	}
	s.served.Add(1)
	return true
}

func (s *Server) add(st *stream) *federation.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[st] = true
	return s.snapshot
}

func (s *Server) remove(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
}

func (s *Server) current() *federation.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshot
}
