package ads

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/cache"
)

// wire is a stream of one of the two protocols.
type wire interface {
	Context() context.Context
	// receive returns the next request; node is set in the first.
	receive() (r *request, node *corev3.Node, err error)
	send(r *response) error
	sotw() bool
}

// Reasons for which the server ends a stream.
var (
	errMoved    = status.Error(codes.Unavailable, "the proxy's network changed: connect again")
	errDraining = status.Error(codes.Unavailable, "this server is going away: connect again")
	errUnread   = status.Error(codes.DeadlineExceeded, "the client does not read")
	errUnheard  = status.Error(codes.DeadlineExceeded, "the client does not answer")
)

// stream is one open stream. The session in it is guarded by mu, since the
// debug view reads it.
type stream struct {
	server *Server
	wire   wire
	since  time.Time
	node   *node
	member *cache.Member
	ending chan error // takes the first reason to end

	mu      sync.Mutex
	session *session
}

// serve runs a stream to its end. It is what both services call.
func (s *Server) serve(w wire) error {
	if !s.enter() {
		return errDraining
	}
	st := &stream{server: s, wire: w, since: time.Now(), ending: make(chan error, 1)}
	go func() {
		defer s.served.Done()
		defer s.recovered(st)
		st.end(st.run())
	}()
	return st.wait(s.draining)
}

// wait returns why the stream ends. The goroutine that runs it may be stuck in
// a send; returning is what frees it.
func (st *stream) wait(draining <-chan struct{}) error {
	select {
	case err := <-st.ending:
		return err
	case <-draining:
		return errDraining
	case <-st.wire.Context().Done():
		return status.FromContextError(st.wire.Context().Err()).Err()
	}
}

// end asks for the stream to end; the first reason counts.
func (st *stream) end(err error) {
	select {
	case st.ending <- err:
	default:
	}
}

// recovered keeps one client's stream from taking the server down.
func (s *Server) recovered(st *stream) {
	if p := recover(); p != nil {
		s.log.Error("stream panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		st.end(status.Error(codes.Internal, "internal error"))
	}
}

// asStatus gives an error of ours a gRPC code, in this one place.
func asStatus(err error, code codes.Code) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	switch {
	case errors.Is(err, errIdentity):
		code = codes.PermissionDenied
	case errors.Is(err, errRequest):
		code = codes.InvalidArgument
	}
	return status.Error(code, err.Error())
}

// run finds out who is there before it reads anything, joins the cache and
// serves until the client goes.
func (st *stream) run() error {
	s := st.server
	caller, err := s.opts.Authenticate(st.wire.Context())
	if err != nil {
		s.metrics.denied.Inc()
		return asStatus(err, codes.Unauthenticated)
	}
	first, n, err := st.wire.receive()
	if err != nil {
		return ended(err)
	}
	if st.node, err = newNode(n, caller); err != nil {
		s.metrics.denied.Inc()
		s.log.Warn("xds stream refused", "proxy", clip(n.GetId(), maxNodeID), "identity", caller.ID.String(), "err", err)
		return asStatus(err, codes.InvalidArgument)
	}
	select {
	case <-s.ready:
	case <-st.wire.Context().Done():
		return nil
	}
	st.session = newSession(st.wire.sotw(), st.since)
	snapshot := s.add(st)
	defer s.remove(st)
	st.node.inhabited(snapshot)
	st.join(st.node.proxy(snapshot))
	defer st.leave()
	return st.loop(first)
}

// moved reports whether the proxy's place is another in snapshot than the one
// it joined with. It is called with the server locked.
func (st *stream) moved(snapshot *federation.Snapshot) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.member != nil && st.node.proxy(snapshot).Group != st.member.Proxy().Group
}

func (st *stream) join(p cache.Proxy) {
	m := st.server.cache.Join(p)
	st.mu.Lock()
	st.member = m
	st.mu.Unlock()
	st.gauge(1)
	if st.moved(st.server.current()) { // by an Update between the two
		st.end(errMoved)
	}
	st.server.log.Info("proxy connected", "proxy", st.node.id, "kind", p.Group.Kind.String(), "cluster", string(p.Group.Cluster),
		"network", string(p.Group.Network), "identity", p.Identity, "sotw", st.wire.sotw())
	if !p.Group.MTLS {
		st.server.log.Warn("proxy does not say that it speaks mtls, and is sent no endpoint that needs it", "proxy", st.node.id)
	}
}

func (st *stream) leave() {
	st.member.Close()
	st.gauge(-1)
	st.server.log.Info("proxy gone", "proxy", st.node.id)
}

func (st *stream) gauge(by float64) {
	st.server.metrics.connected.WithLabelValues(st.node.kind.String(), protocolName(st.wire.sotw())).Add(by)
}

func protocolName(sotw bool) string {
	if sotw {
		return "sotw"
	}
	return "delta"
}

// ended maps the end of reading: a client that closes or breaks off is no error.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return asStatus(err, codes.Unavailable)
}
