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
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/ads"
	"github.com/isthmus-mesh/isthmus/primary/review"
	"github.com/isthmus-mesh/isthmus/primary/watch"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
	"github.com/isthmus-mesh/isthmus/trust/csr"
)

// caInterval is how often the files of the authority are looked at.
const caInterval = 5 * time.Second

// Server is isthmusd.
type Server struct {
	opts Options
	log  *slog.Logger
}

// parts are what Run makes of the options.
type parts struct {
	kube      kubernetes.Interface
	authority *ca.Authority
	identity  *ca.Source
	ads       *ads.Server
	csr       *csr.Server
	watch     *watch.Watcher
	serving   *webhook.Serving
	// namespaces tells the webhook which ones refuse pods with a sidecar.
	namespaces *webhook.Namespaces
	elected    *elected
	overlap    *overlap
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
	s.log.Info("isthmusd starts", "cluster", s.opts.Cluster, "network", s.opts.Network, "trust_domain", s.opts.Domain.String(), "bundle", p.authority.Bundle().Hash())
	group, ctx := errgroup.WithContext(ctx)
	run := func(name string, f func(context.Context) error) {
		group.Go(func() error {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	run("authority", func(ctx context.Context) error { return p.authority.Follow(ctx, s.opts.CADir, caInterval, s.reportCA) })
	run("watch", p.watch.Run)
	run("ads", p.ads.Run)
	run("webhook certificate", p.serving.Run)
	run("webhook namespaces", p.namespaces.Run)
	run("controllers", p.elected.Run)
	run("overlap", p.overlap.Run)
	run("expiry", newExpiry(p.authority, s.opts.Metrics, s.log).Run)
	run("discovery", func(ctx context.Context) error { return s.serveGRPC(ctx, p) })
	for name, server := range s.httpServers(p) {
		run(name, server)
	}
	return group.Wait()
}

// assemble makes the parts; nothing runs yet.
func (s *Server) assemble() (*parts, error) {
	p := &parts{}
	var err error
	config := s.opts.restConfig()
	if p.kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	if p.authority, p.identity, err = s.newAuthority(); err != nil {
		return nil, err
	}
	reviewer, err := review.New(review.Options{Cluster: string(s.opts.Cluster), Config: config, Domain: s.opts.Domain})
	if err != nil {
		return nil, err
	}
	p.csr = csr.NewServer(csr.Options{
		Authority: p.authority, Reviewer: reviewer, Log: s.log, Metrics: s.opts.Metrics,
		Lives: func(id trust.ID) bool { return p.watch.Runs(id.Namespace(), id.ServiceAccount()) },
	})
	if p.ads, err = ads.New(ads.Options{Authenticate: authenticate(p.csr, p.authority.Cluster()), Log: s.log, Metrics: s.opts.Metrics}); err != nil {
		return nil, err
	}
	p.namespaces = webhook.NewNamespaces(p.kube)
	if p.serving, err = webhook.NewServing(webhook.ServingOptions{
		Client: p.kube, Namespace: s.opts.Namespace, Hosts: s.opts.WebhookHosts, Log: s.log,
	}); err != nil {
		return nil, err
	}
	p.watch, err = watch.New(watch.Options{
		Local: config, Cluster: s.opts.Cluster, Network: s.opts.Network, Domain: s.opts.Domain, Namespace: s.opts.Namespace,
		OnSnapshot: func(snapshot *federation.Snapshot) {
			p.ads.Update(snapshot)
			p.elected.Update(snapshot)
		},
		AllowServers: s.opts.AllowServers, EntryFrom: s.opts.EntryFrom, ExportNamespaces: s.opts.ExportNamespaces, Log: s.log, Metrics: s.opts.Metrics,
	})
	if err != nil {
		return nil, err
	}
	p.overlap = &overlap{cluster: s.opts.Cluster, synthetic: s.opts.Synthetic, latest: p.watch.Snapshot, log: s.log}
	if err := s.opts.Metrics.Register(newCensus(s.opts.Cluster, s.opts.EntryPorts, s.opts.Synthetic, p.watch.Snapshot)); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	p.elected, err = newElected(s.opts, p)
	return p, err
}

// newAuthority reads what the cluster signs with. Without it nothing can work,
// so a fault is an error here; later ones are reported and the last good stays.
func (s *Server) newAuthority() (*ca.Authority, *ca.Source, error) {
	material, err := ca.ReadMaterial(s.opts.CADir)
	if err != nil {
		return nil, nil, fmt.Errorf("read secret %s: %w", api.CASecretName, err)
	}
	authority, err := ca.New(ca.Options{
		Cluster: string(s.opts.Cluster), Domain: s.opts.Domain, ChainPEM: material.Chain, KeyPEM: material.Key, BundlePEM: material.Bundle,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("secret %s: %w", api.CASecretName, err)
	}
	id, err := trust.NewID(s.opts.Domain, s.opts.Namespace, api.ControlPlaneName)
	if err != nil {
		return nil, nil, err
	}
	own := authority.Source(id)
	_, err = own.SVID()
	return authority, own, err
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
	server := newGRPC(p.identity, s.log)
	p.ads.Register(server)
	p.csr.Register(server)
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
