package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
	"github.com/isthmus-mesh/isthmus/trust/ca"
)

// caInterval is how often the files of the authority are looked at.
const caInterval = 5 * time.Second

// Server is isthmusd.
type Server struct {
	opts Options
	log  *slog.Logger
}

// parts are what an isthmusd consists of.
type parts struct {
	own     *plane
	planes  *planes
	serving *webhook.Serving
	remotes *remotes
}

// New checks opts.
func New(opts Options) (*Server, error) {
	opts, err := opts.check()
	if err != nil {
		return nil, err
	}
	return &Server{opts: opts, log: opts.Log}, nil
}

// Run serves until ctx ends, and then lets streams and calls end in order. An
// error is one that a restart may cure.
func (s *Server) Run(ctx context.Context) error {
	defer s.closeListeners()
	p, err := s.assemble()
	if err != nil {
		return err
	}
	s.log.Info("isthmusd starts", "cluster", s.opts.Cluster, "network", s.opts.Network, "trust_domain", s.opts.Domain.String(), "bundle", p.own.authority.Bundle().Hash())
	group, ctx := errgroup.WithContext(ctx)
	run := func(name string, f func(context.Context) error) {
		group.Go(func() error {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	run("authority", func(ctx context.Context) error {
		return p.own.authority.Follow(ctx, s.opts.CADir, caInterval, s.reportCA)
	})
	run("own cluster", p.own.run)
	run("remotes", p.remotes.Run)
	run("webhook certificate", p.serving.Run)
	run("discovery", func(ctx context.Context) error { return s.serveGRPC(ctx, p) })
	for name, server := range s.httpServers(p) {
		run(name, server)
	}
	return group.Wait()
}

// assemble makes the parts; nothing runs yet.
func (s *Server) assemble() (*parts, error) {
	material, err := ca.ReadMaterial(s.opts.CADir)
	if err != nil {
		return nil, fmt.Errorf("read secret %s: %w", api.CASecretName, err)
	}
	p := &parts{}
	if p.own, err = newPlane(s.opts, s.opts.Metrics, material, nil); err != nil {
		return nil, fmt.Errorf("control plane of %s: %w", s.opts.Cluster, err)
	}
	p.planes = newPlanes(p.own)
	if p.serving, err = webhook.NewServing(webhook.ServingOptions{
		Client: p.own.kube, Namespace: s.opts.Namespace, Hosts: s.opts.WebhookHosts, Log: s.log,
		Service: api.OfRevision(api.ControlPlaneName, s.opts.Revision), Configuration: api.OfRevision(webhook.ConfigurationName, s.opts.Revision),
	}); err != nil {
		return nil, err
	}
	p.remotes, err = newRemotes(s.opts, p)
	return p, err
}

func (s *Server) reportCA(err error) {
	if err != nil {
		s.log.Error("the certificate authority's new files cannot be used, the old ones stay", "err", err)
		return
	}
	s.log.Info("the certificate authority's files are in use")
}

// serveGRPC serves discovery and certificates until ctx ends, then lets open
// streams end for a moment.
func (s *Server) serveGRPC(ctx context.Context, p *parts) error {
	server := newGRPC(p.planes.tls(), s.log)
	p.planes.register(server)
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		stopGRPC(server)
	})
	err := server.Serve(netutil.LimitListener(s.opts.Listeners.Discovery, maxConnections))
	if !stop() {
		<-done
	}
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

// stopGRPC ends server within 6 s, in order if it can.
func stopGRPC(server *grpc.Server) {
	hard := time.AfterFunc(6*time.Second, server.Stop)
	defer hard.Stop()
	server.GracefulStop()
}

func (s *Server) closeListeners() {
	l := s.opts.Listeners
	for _, listener := range []interface{ Close() error }{l.Discovery, l.Webhook, l.Metrics, l.Health, l.Debug} {
		_ = listener.Close()
	}
}
