package server

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/controllers"
)

// How quickly a lost leader is followed. A replica that loses the election goes
// on serving; only its controllers stop.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// controller is one part that only the elected replica runs.
type controller interface {
	Update(*federation.Snapshot)
	Run(ctx context.Context) error
}

// elected runs the controllers while this replica holds the Lease.
type elected struct {
	opts    Options
	log     *slog.Logger
	lock    resourcelock.Interface
	leads   sync.Mutex // held while leading
	leading atomic.Bool

	local       *controllers.Local
	controllers map[string]controller

	first chan struct{} // closed by the first Update
	seen  atomic.Bool
}

func newElected(opts Options, p *plane, of *host) (*elected, error) {
	local, err := controllers.NewLocal(opts.restConfig(), opts.Namespace)
	if err != nil {
		return nil, err
	}
	e := &elected{
		opts: opts, log: opts.Log, local: local, first: make(chan struct{}),
		lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: opts.Namespace, Name: api.ControlPlaneName},
			Client:     p.kube.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: opts.Identity},
		},
	}
	links := controllers.NewLinks(local, opts.Namespace, opts.Cluster, p.watch, p.metrics, opts.Log)
	prober := controllers.NewProber(p.identity, opts.Domain, opts.Cluster, links.Poke, opts.Log)
	links.SetProber(prober)
	e.controllers = map[string]controller{
		"imports": controllers.NewImports(local, controllers.ImportOptions{
			Cluster: opts.Cluster, Namespace: opts.Namespace, EntryPorts: opts.EntryPorts, Synthetic: opts.Synthetic, Log: opts.Log,
		}),
		"exports":  controllers.NewExports(local, opts.Cluster, opts.Log),
		"bundles":  controllers.NewBundles(local, func() []byte { return p.authority.Bundle().PEM() }, opts.Log),
		"problems": controllers.NewProblems(local, opts.Cluster, opts.Log),
		"links":    links,
		"leases":   &leases{local: local, namespace: opts.Namespace, lease: opts.Lease, log: opts.Log},
		"prober":   prober,
	}
	if of == nil {
		e.controllers["renewal"] = &renewal{kube: p.kube, namespace: opts.Namespace, allowServers: opts.AllowServers, log: opts.Log}
		return e, nil
	}
	links.SecretsElsewhere()
	e.controllers["way home"] = controllers.NewWayHome(local, p.kube, opts.Namespace, of.door, of.serving.Authority, opts.Log)
	return e, nil
}

// Leading reports whether the controllers run here.
func (e *elected) Leading() bool { return e.leading.Load() }

// Update hands the newest snapshot to the controllers. Calls must not overlap.
func (e *elected) Update(s *federation.Snapshot) {
	for _, c := range e.controllers {
		c.Update(s)
	}
	if !e.seen.Swap(true) {
		close(e.first)
	}
}

// Run stands for election until ctx ends.
func (e *elected) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return e.local.Cache.Start(ctx) })
	group.Go(func() error {
		select { // the first snapshot, so that nobody leads who knows nothing
		case <-ctx.Done():
			return nil
		case <-e.first:
		}
		for ctx.Err() == nil {
			if err := e.term(ctx); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
			case <-time.After(retryPeriod):
			}
		}
		return nil
	})
	return group.Wait()
}

// term stands for election once, and leads until the Lease is lost or outer
// ends. Then the Lease is let go only when the controllers have stopped, so that
// no other replica writes beside them.
func (e *elected) term(outer context.Context) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(outer))
	defer cancel()
	var started atomic.Bool
	defer context.AfterFunc(outer, func() {
		if !started.Load() {
			cancel()
		}
	})()
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: e.lock, LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod, ReleaseOnCancel: true, Name: api.ControlPlaneName,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				started.Store(true)
				ctx, stop := context.WithCancel(ctx) // by the elector where the Lease is lost
				defer context.AfterFunc(outer, stop)()
				if outer.Err() == nil {
					e.lead(ctx)
				}
				cancel() // outer ended, or a controller failed: let another try
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return err
	}
	elector.Run(ctx)
	e.leads.Lock() // until the controllers have ended
	defer e.leads.Unlock()
	return nil
}

// lead runs every controller until ctx ends or one fails.
func (e *elected) lead(ctx context.Context) {
	e.leads.Lock() // the elector starts us without waiting: never two at once
	defer e.leads.Unlock()
	if ctx.Err() != nil {
		return
	}
	e.leading.Store(true)
	defer e.leading.Store(false)
	e.log.Info("elected: controllers run here")
	group, ctx := errgroup.WithContext(ctx)
	for name, c := range e.controllers {
		group.Go(func() error {
			if err := c.Run(ctx); err != nil && ctx.Err() == nil {
				e.log.Error("a controller ended", "controller", name, "err", err)
				return err
			}
			return nil
		})
	}
	_ = group.Wait() // reported above
	e.log.Info("controllers stopped here")
}
