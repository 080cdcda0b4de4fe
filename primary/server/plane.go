package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/ads"
	"github.com/isthmus-mesh/isthmus/primary/controllers"
	"github.com/isthmus-mesh/isthmus/primary/review"
	"github.com/isthmus-mesh/isthmus/primary/watch"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
	"github.com/isthmus-mesh/isthmus/remote/registry"
	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
	"github.com/isthmus-mesh/isthmus/trust/csr"
)

// A plane is the control plane of one cluster: of the one in which the program
// runs, or of a remote that this one serves. It reads and writes its own cluster
// by that cluster's API server, signs with that cluster's intermediate and is
// known by that cluster's name, wherever it runs.
type plane struct {
	cluster   federation.ClusterName
	log       *slog.Logger
	metrics   prometheus.Registerer
	kube      kubernetes.Interface
	authority *ca.Authority
	identity  *ca.Source
	ads       *ads.Server
	csr       *csr.Server
	watch     *watch.Watcher
	elected   *elected
	overlap   *overlap
	expiry    *expiry
	inject    http.Handler
	// namespaces tells the webhook which ones refuse pods with a sidecar.
	namespaces *webhook.Namespaces
}

// host is the cluster in which the program runs, to the plane of another one.
type host struct {
	config  *rest.Config // holds the remote secrets
	member  *registry.Home
	serving *webhook.Serving
	door    func(context.Context) (controllers.Door, error) // where isthmusd is reached from outside
}

// newPlane makes the plane of opts.Cluster, whose API server opts.Config leads to.
// of is nil for the cluster in which the program runs.
func newPlane(opts Options, metrics prometheus.Registerer, material ca.Material, of *host) (*plane, error) {
	p := &plane{cluster: opts.Cluster, log: opts.Log, metrics: metrics}
	config := opts.restConfig()
	var err error
	if p.kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	p.namespaces = webhook.NewNamespaces(p.kube)
	p.inject = webhook.Handler(opts.Injection, p.namespaces.Labels, opts.Log)
	if err := p.identify(opts, material); err != nil {
		return nil, err
	}
	if err := p.serve(opts, config, of != nil); err != nil {
		return nil, err
	}
	watched := watch.Options{
		Local: config, Cluster: opts.Cluster, Network: opts.Network, Domain: opts.Domain, Namespace: opts.Namespace,
		OnSnapshot: func(snapshot *federation.Snapshot) {
			p.ads.Update(snapshot)
			p.elected.Update(snapshot)
		},
		AllowServers: opts.AllowServers, EntryFrom: opts.EntryFrom, ExportNamespaces: opts.ExportNamespaces, Log: opts.Log, Metrics: metrics,
	}
	if of != nil {
		watched.Secrets, watched.Home = of.config, of.member
	}
	if p.watch, err = watch.New(watched); err != nil {
		return nil, err
	}
	p.overlap = &overlap{cluster: opts.Cluster, synthetic: opts.Synthetic, latest: p.watch.Snapshot, log: opts.Log}
	p.expiry = newExpiry(p.authority, metrics, opts.Log)
	if err := metrics.Register(newCensus(opts.Cluster, opts.EntryPorts, opts.Synthetic, p.watch.Snapshot)); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	p.elected, err = newElected(opts, p, of)
	return p, err
}

// identify makes the authority, and with it the plane's own identity.
func (p *plane) identify(opts Options, material ca.Material) (err error) {
	p.authority, err = ca.New(ca.Options{
		Cluster: string(opts.Cluster), Domain: opts.Domain, ChainPEM: material.Chain, KeyPEM: material.Key, BundlePEM: material.Bundle,
	})
	if err != nil {
		return err
	}
	id, err := trust.NewID(opts.Domain, opts.Namespace, api.ControlPlaneName)
	if err != nil {
		return err
	}
	p.identity = p.authority.Source(id)
	_, err = p.identity.SVID()
	return err
}

// serve makes the services for proxies. Those of a remote all come from the gateway's
// address, so that what bounds one address is wider.
func (p *plane) serve(opts Options, config *rest.Config, remote bool) error {
	reviewer, err := review.New(review.Options{Cluster: string(opts.Cluster), Config: config, Domain: opts.Domain})
	if err != nil {
		return err
	}
	var limits csr.Limits
	if remote {
		limits.SourceRate, limits.SourceBurst = 500, 5000
	}
	p.csr = csr.NewServer(csr.Options{
		Authority: p.authority, Reviewer: reviewer, Log: opts.Log, Metrics: p.metrics, Limits: limits,
		Lives: func(id trust.ID) bool { return p.watch.Runs(id.Namespace(), id.ServiceAccount()) },
	})
	p.ads, err = ads.New(ads.Options{Authenticate: authenticate(p.csr, p.authority.Cluster()), Log: opts.Log, Metrics: p.metrics})
	return err
}

// run runs all parts until ctx ends; it is the first error of one.
func (p *plane) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for name, part := range map[string]func(context.Context) error{
		"watch": p.watch.Run, "ads": p.ads.Run, "controllers": p.elected.Run, "overlap": p.overlap.Run, "expiry": p.expiry.Run, "webhook namespaces": p.namespaces.Run,
	} {
		group.Go(func() error {
			if err := part(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// readable reports whether there is a snapshot, and every cluster that is not in
// it yet has failed: what can be read has been.
func (p *plane) readable() bool {
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
