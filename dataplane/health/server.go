package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Options configures a Server.
type Options struct {
	Listener net.Listener     // required; Run closes it
	Ready    func() error     // required; nil says ready, an error why not
	Probes   map[string]Probe // by path, from ParseProbes
	Pod      netip.Addr       // required where there are probes
	// Dial connects to the application past the redirect; nil means a plain dialler.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Log  *slog.Logger // nil discards
}

// A Server answers /readyz, /healthz/ready and the rewritten probes.
type Server struct {
	opts Options
	http *http.Server
}

// New checks opts.
func New(opts Options) (*Server, error) {
	switch {
	case opts.Listener == nil:
		return nil, errors.New("health: no listener")
	case opts.Ready == nil:
		return nil, errors.New("health: nothing says what ready is")
	case len(opts.Probes) > 0 && !opts.Pod.IsValid():
		return nil, errors.New("health: probes without the pod's address")
	}
	if opts.Dial == nil {
		opts.Dial = new(net.Dialer).DialContext
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{opts: opts}
	s.http = &http.Server{Handler: s.routes(), ReadTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	return s, nil
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.http.Close() })
	defer stop()
	if err := s.http.Serve(s.opts.Listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health: %w", err)
	}
	return nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /healthz/ready", s.readyz)
	mux.HandleFunc("GET "+Prefix, s.probe)
	return mux
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	if err := s.opts.Ready(); err != nil {
		http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

func (s *Server) probe(w http.ResponseWriter, r *http.Request) {
	p, ok := s.opts.Probes[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	status, err := s.run(r.Context(), p)
	if err != nil {
		s.opts.Log.Debug("probe failed", "path", r.URL.Path, "err", err)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(status)
}
