// Package relay serves the control plane's delta ADS stream to the Envoy beside
// it, keeps what Envoy accepted, and serves that while the control plane cannot
// be reached.
package relay

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/dataplane/xds"
)

const (
	maxResponse = 128 << 20 // bytes
	saveDelay   = 500 * time.Millisecond
)

// Options configures a Relay.
type Options struct {
	Conn     grpc.ClientConnInterface // required; to the control plane
	Node     *corev3.Node             // required; replaces whatever node Envoy names
	LastGood *xds.File                // nil keeps nothing on disk
	Patience time.Duration            // how long the control plane may take for its first answer; 0 means 2s
	Retry    time.Duration            // how often it is tried while the last good is served; 0 means 2s
	Log      *slog.Logger             // nil discards
}

// A Relay implements delta ADS. State-of-the-world streams are refused: the
// bootstrap asks for delta.
type Relay struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	opts Options
	log  *slog.Logger

	mu        sync.Mutex
	record    *record
	dirty     bool
	connected bool
	since     time.Time
	lastError string
	ready     chan struct{}
}

// New checks opts and reads the last good configuration, which is used only
// where it is needed.
func New(opts Options) (*Relay, error) {
	if opts.Conn == nil || opts.Node.GetId() == "" {
		return nil, errors.New("relay: connection and node are required")
	}
	if opts.Patience == 0 {
		opts.Patience = 2 * time.Second
	}
	if opts.Retry == 0 {
		opts.Retry = 2 * time.Second
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Relay{opts: opts, log: opts.Log, record: newRecord(), since: time.Now(), ready: make(chan struct{})}, nil
}

// Register adds the relay to g.
func (r *Relay) Register(g *grpc.Server) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, r)
}

// Ready is closed once Envoy has accepted xds clusters and listeners.
func (r *Relay) Ready() <-chan struct{} { return r.ready }

// Run keeps the last good configuration on disk until ctx ends.
func (r *Relay) Run(ctx context.Context) error {
	ticker := time.NewTicker(saveDelay)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			r.save()
			return nil
		case <-ticker.C:
			r.save()
		}
	}
}

func (r *Relay) save() {
	r.mu.Lock()
	if !r.dirty || r.opts.LastGood == nil || !r.record.whole() {
		r.mu.Unlock()
		return
	}
	r.dirty = false
	responses := r.record.responses()
	r.mu.Unlock()
	if err := r.opts.LastGood.Write(responses); err != nil {
		r.log.Error("keep last good configuration", "err", err)
	}
}

// DeltaAggregatedResources serves Envoy: from the control plane, or from the
// last good configuration until the control plane is back.
func (r *Relay) DeltaAggregatedResources(down discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	first, err := down.Recv()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(down.Context())
	defer cancel()
	p := &pipe{relay: r, down: down, requests: make(chan *discoveryv3.DeltaDiscoveryRequest), failed: make(chan error, 2)}
	p.receive(ctx)
	up, err := r.open(ctx)
	if err == nil {
		err = p.through(ctx, up, first)
	}
	r.setConnected(false, err)
	if down.Context().Err() != nil || errors.Is(err, io.EOF) {
		return nil
	}
	if p.answered {
		return status.Errorf(codes.Unavailable, "control plane: %v", err)
	}
	r.log.Warn("control plane not reached, serving the last good configuration", "err", err)
	return p.offline(ctx, first)
}

// open opens a stream to the control plane.
func (r *Relay) open(ctx context.Context) (discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, error) {
	return discoveryv3.NewAggregatedDiscoveryServiceClient(r.opts.Conn).DeltaAggregatedResources(ctx, grpc.MaxCallRecvMsgSize(maxResponse))
}

func (r *Relay) setConnected(connected bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.connected != connected {
		r.connected, r.since = connected, time.Now()
	}
	if err != nil {
		r.lastError = err.Error()
	}
}

// State returns what Envoy accepted.
func (r *Relay) State() xds.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.record.state()
}

// Status returns the state of the stream.
func (r *Relay) Status() xds.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := xds.Status{Connected: r.connected, Since: r.since, LastError: r.lastError, Ready: r.record.complete(), Types: map[string]xds.TypeStatus{}}
	for typeURL, t := range r.record.types {
		s.Types[typeURL] = xds.TypeStatus{Held: len(t), Refused: r.record.refusals(typeURL)}
	}
	return s
}
