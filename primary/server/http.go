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
	injector.Handle("POST "+webhook.Path, webhook.Handler(s.opts.Injection, p.namespaces.Labels, s.log))
	metrics := http.NewServeMux()
	metrics.Handle("GET /metrics", promhttp.HandlerFor(s.opts.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
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
		"webhook": serveHTTP(tls.NewListener(l.Webhook, p.serving.TLS()), injector),
		"metrics": serveHTTP(l.Metrics, metrics),
		"health":  serveHTTP(l.Health, health),
		"debug":   serveHTTP(l.Debug, s.debugHandler(p)),
	}
}

// ready returns nil when this replica may be sent proxies and pods, and what
// it waits for otherwise.
func (p *parts) ready() error {
	if err := p.watch.Ready(); err != nil && !p.readable() {
		return err
	}
	if !p.serving.Ready() {
		return errors.New("the webhook's certificate is not in place")
	}
	_, err := p.identity.SVID()
	return err
}

// readable reports whether all has been read that can be: a cluster that was
// asked and did not answer is served from its checkpoint, and nobody gains by
// waiting for it.
func (p *parts) readable() bool {
	if p.watch.Snapshot() == nil {
		return false
	}
	failed := map[string]bool{}
	for _, s := range p.watch.Statuses() {
		failed[s.Cluster] = !s.Reachable && s.Message != ""
	}
	for _, name := range p.watch.Unread() {
		if !failed[name] {
			return false
		}
	}
	return true
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
