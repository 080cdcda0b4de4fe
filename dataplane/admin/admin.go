// Package admin serves what an operator may ask a proxy, on loopback, and its
// metrics. Nothing that it shows holds a key or a token.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/isthmus-mesh/isthmus/dataplane/xds"
	"github.com/isthmus-mesh/isthmus/fault"
)

// Options configures the admin server. Where a function is nil, its page says
// that the proxy has no such thing.
type Options struct {
	Listener net.Listener        // required, on loopback; Run closes it
	Gatherer prometheus.Gatherer // required
	Ready    func() error        // required

	State        func() xds.State  // accepted resources, for /config_dump
	XDS          func() xds.Status // for /xds
	Clusters     func() any        // hosts, health, ejections; printed as JSON
	Listeners    func() any
	Certificates func() any     // no keys
	Drain        func()         // starts draining and returns
	Quit         func()         // ends the proxy and returns
	Level        *slog.LevelVar // for /logging

	Faults func() any                                                 // listeners that a drill has broken, for /fault
	Break  func(listener string, m fault.Mode, d time.Duration) error // has a listener behave so for d at most
	Mend   func(listener string) error
}

// New checks opts.
func New(opts Options) (*Server, error) {
	if opts.Listener == nil || opts.Gatherer == nil || opts.Ready == nil {
		return nil, errors.New("admin: listener, gatherer and ready are required")
	}
	if a, err := netip.ParseAddrPort(opts.Listener.Addr().String()); err != nil || !a.Addr().IsLoopback() {
		return nil, fmt.Errorf("admin: %s is not a loopback address", opts.Listener.Addr())
	}
	return newServer(opts.Listener, opts.routes()), nil
}

// NewMetrics returns a server of metrics alone, for any address.
func NewMetrics(l net.Listener, gatherer prometheus.Gatherer) *Server {
	mux := http.NewServeMux()
	handler := promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	mux.Handle("GET /stats/prometheus", handler)
	mux.Handle("GET /metrics", handler)
	return newServer(l, mux)
}

// A Server serves one listener.
type Server struct {
	listener net.Listener
	http     *http.Server
}

func newServer(l net.Listener, h http.Handler) *Server {
	return &Server{l, &http.Server{
		Handler: h, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}}
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.http.Close() })
	defer stop()
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.listener.Addr(), err)
	}
	return nil
}

func (o Options) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /stats/prometheus", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /ready", o.ready)
	mux.HandleFunc("GET /config_dump", o.configDump)
	mux.HandleFunc("GET /xds", page(o.XDS))
	mux.HandleFunc("GET /clusters", page(o.Clusters))
	mux.HandleFunc("GET /listeners", page(o.Listeners))
	mux.HandleFunc("GET /certs", page(o.Certificates))
	mux.HandleFunc("POST /drain", func(w http.ResponseWriter, _ *http.Request) { start(w, "drain", o.Drain) })
	mux.HandleFunc("POST /quitquitquit", func(w http.ResponseWriter, _ *http.Request) { start(w, "quit", o.Quit) })
	mux.HandleFunc("GET /fault", o.showFaults)
	mux.HandleFunc("POST /fault", o.breakListener)
	mux.HandleFunc("DELETE /fault", o.mendListener)
	mux.HandleFunc("GET /logging", o.showLevel)
	mux.HandleFunc("POST /logging", o.setLevel)
	return localOnly(mux)
}

// localOnly refuses requests that name a foreign host: a web page that a browser
// on this machine shows must not drive the proxy by a name that it made resolve to us.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if a, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !a.IsLoopback()) {
			http.Error(w, "this page is for localhost", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// page prints what show returns as JSON.
func page[T any](show func() T) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if show == nil {
			http.Error(w, "this proxy has no such page", http.StatusNotFound)
			return
		}
		writeJSON(w, show())
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(text, '\n'))
}

func (o Options) ready(w http.ResponseWriter, _ *http.Request) {
	if err := o.Ready(); err != nil {
		http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "LIVE")
}

// start does what a page is for; nil says that this proxy cannot.
func start(w http.ResponseWriter, what string, do func()) {
	if do == nil {
		http.Error(w, "this proxy cannot "+what, http.StatusNotFound)
		return
	}
	fmt.Fprintln(w, what+": started")
	do()
}

func (o Options) showLevel(w http.ResponseWriter, _ *http.Request) {
	if o.Level == nil {
		http.Error(w, "the level cannot be set", http.StatusNotFound)
		return
	}
	writeJSON(w, map[string]string{"level": o.Level.Level().String()})
}

func (o Options) setLevel(w http.ResponseWriter, r *http.Request) {
	if o.Level == nil {
		http.Error(w, "the level cannot be set", http.StatusNotFound)
		return
	}
	if err := o.Level.UnmarshalText([]byte(r.FormValue("level"))); err != nil {
		http.Error(w, "level is debug, info, warn or error", http.StatusBadRequest)
		return
	}
	o.showLevel(w, r)
}
