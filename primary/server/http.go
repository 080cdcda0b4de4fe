package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/isthmus-mesh/isthmus/primary/webhook"
)

// httpServers returns what serves the other ports, by name.
func (s *Server) httpServers(p *parts) map[string]func(context.Context) error {
	l := s.opts.Listeners
	injector := http.NewServeMux()
	injector.Handle("POST "+webhook.Path, p.own.inject)
	injector.HandleFunc("POST "+webhook.Path+"/{cluster}", func(w http.ResponseWriter, r *http.Request) {
		served := p.planes.of(r.PathValue("cluster"))
		if served == nil {
			http.Error(w, "no such cluster is served here", http.StatusNotFound)
			return
		}
		served.inject.ServeHTTP(w, r)
	})
	metrics := http.NewServeMux()
	metrics.Handle("GET /metrics", promhttp.HandlerFor(p.planes.metrics(s.opts.Metrics), promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	health := http.NewServeMux()
	health.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	health.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := p.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return map[string]func(context.Context) error{
		"webhook": serveHTTP(tls.NewListener(l.Webhook, p.serving.TLS()), aging(injector, maxReviewAge)),
		"metrics": serveHTTP(l.Metrics, metrics),
		"health":  serveHTTP(l.Health, health),
		"debug":   serveHTTP(l.Debug, s.debugHandler(p)),
	}
}

// ready returns nil when this replica may be sent proxies and pods, and what
// it waits for otherwise.
func (p *parts) ready() error {
	if err := p.own.watch.Ready(); err != nil && !p.own.readable() {
		return err
	}
	if !p.serving.Ready() {
		return errors.New("the webhook's certificate is not in place")
	}
	_, err := p.own.identity.SVID()
	return err
}

// serveHTTP returns a function that serves handler until its context ends.
func serveHTTP(listener net.Listener, handler http.Handler) func(context.Context) error {
	return func(ctx context.Context) error {
		server := &http.Server{
			Handler:           handler,
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       15 * time.Second,
			WriteTimeout:      60 * time.Second, // a profile takes 30
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    32 << 10,
			ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
				return context.WithValue(ctx, acceptedKey{}, time.Now())
			},
		}
		done := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(done)
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if server.Shutdown(ctx) != nil {
				_ = server.Close()
			}
		})
		err := server.Serve(listener)
		if !stop() {
			<-done
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	}
}

// maxReviewAge is for how long API servers begin reviews on one connection. What a connection leads to or through ends later than that
// after it stops taking new ones (isthmusd after its --drain-delay, a primary's gateway after its drain timeout), and cuts those that are
// left: none that is in use. An API server does not send a review again that was cut off; the pod is refused.
const maxReviewAge = 2 * time.Second

type acceptedKey struct{} // of a connection's context: the time.Time at which it was accepted

// aging ends a connection with the first answer that is given when it is older than age.
func aging(handler http.Handler, age time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if accepted, ok := r.Context().Value(acceptedKey{}).(time.Time); ok && time.Since(accepted) >= age {
			w.Header().Set("Connection", "close")
		}
		handler.ServeHTTP(w, r)
	})
}
