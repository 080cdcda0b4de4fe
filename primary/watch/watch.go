// Package watch reads all linked clusters and publishes snapshots of the mesh.
// Events only mark what changed; one goroutine makes the next snapshot, at once
// after quiet and after a hold-off under churn.
package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/ingest"
	"github.com/isthmus-mesh/isthmus/remote/registry"
	"github.com/isthmus-mesh/isthmus/trust"
)

// readyAfter is how long remotes are waited for.
const readyAfter = 30 * time.Second

// Options configures a Watcher.
type Options struct {
	Local     *rest.Config           // required: leads to Cluster
	Cluster   federation.ClusterName // required: its name
	Network   federation.NetworkName // its network where the system namespace names none; empty means the cluster's name
	Domain    trust.Domain           // required
	Namespace string                 // system namespace; empty means api.SystemNamespace
	// Secrets leads to the cluster that holds the remote secrets, and Home is that
	// cluster, where it is not Local: on behalf of a remote. nil means Local.
	Secrets *rest.Config
	Home    *registry.Home
	// OnSnapshot is called with each new snapshot, from one goroutine. It must
	// not take long: only the newest counts. May be nil.
	OnSnapshot func(*federation.Snapshot)
	// Holdoff is the least time between two snapshots; 0 means 100 ms. It grows
	// to at most 1 s where making one takes long.
	Holdoff      time.Duration
	MaxObjects   int           // budget for each cluster; 0 means 300,000
	AllowServers []string      // as registry.Options
	Grace        time.Duration // as registry.Options, and the next two
	ProbeEvery   time.Duration
	ReachableFor time.Duration
	// EntryFrom are the ranges from which entry gateways may be called; nil means
	// those of nodes and pods.
	EntryFrom []netip.Prefix
	// ExportNamespaces are system namespaces of Kubernetes whose exports are taken
	// after all: kube-system, kube-public or kube-node-lease.
	ExportNamespaces []string
	// LookUp resolves gateway hostnames; nil means the system's resolver.
	LookUp  func(ctx context.Context, host string) ([]netip.Addr, error)
	Log     *slog.Logger // nil discards
	Metrics prometheus.Registerer
}

// Watcher reads the clusters.
type Watcher struct {
	opts     Options
	scheme   *runtime.Scheme
	registry *registry.Registry
	metrics  *metrics
	dirty    chan struct{}
	start    time.Time

	latest atomic.Pointer[federation.Snapshot]
	reads  atomic.Pointer[[]string] // clusters that are not read yet

	mu       sync.Mutex
	feeds    map[federation.ClusterName]*feed // those in use
	resolved map[string]resolution
	subs     []chan *federation.Snapshot

	// The loop's alone.
	inputs *ingest.Inputs
	links  map[ingest.Name]*link
	known  map[federation.ClusterName]map[ref]struct{} // what inputs hold
	hold   hold
}

// New checks opts. It does no I/O.
func New(opts Options) (*Watcher, error) {
	if opts.Local == nil || opts.Cluster == "" || opts.Domain.IsZero() {
		return nil, errors.New("watch: Local, Cluster and Domain are required")
	}
	if opts.Namespace == "" {
		opts.Namespace = api.SystemNamespace
	}
	if opts.Network == "" {
		opts.Network = federation.NetworkName(opts.Cluster)
	}
	if opts.Holdoff == 0 {
		opts.Holdoff = 100 * time.Millisecond
	}
	if opts.MaxObjects == 0 {
		opts.MaxObjects = defaultMaxObjects
	}
	if opts.LookUp == nil {
		opts.LookUp = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	w := &Watcher{
		opts: opts, scheme: scheme, dirty: make(chan struct{}, 1), feeds: map[federation.ClusterName]*feed{}, resolved: map[string]resolution{},
		inputs: ingest.NewInputs(opts.Domain, opts.Namespace), links: map[ingest.Name]*link{}, known: map[federation.ClusterName]map[ref]struct{}{},
	}
	w.inputs.EntryFrom, w.inputs.ExportNamespaces = opts.EntryFrom, opts.ExportNamespaces
	w.metrics = newMetrics(opts.Metrics)
	of := registry.Options{
		Local: opts.Local, Namespace: opts.Namespace, Cluster: string(opts.Cluster),
		Open: w.open, Swap: w.swap, Remove: w.remove, Change: w.mark,
		AllowServers: opts.AllowServers, Grace: opts.Grace, ProbeEvery: opts.ProbeEvery, ReachableFor: opts.ReachableFor, Log: opts.Log,
	}
	if opts.Secrets != nil {
		of.Local, of.Self, of.Home = opts.Secrets, opts.Local, opts.Home
	}
	w.registry, err = registry.New(of)
	return w, err
}

// Run reads until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	client, err := rest.HTTPClientFor(w.opts.Local)
	if err != nil {
		return fmt.Errorf("watch: client for the local cluster: %w", err)
	}
	w.start = time.Now().UTC()
	local := newFeed(w.opts.Local, client, w.scheme, localResources(w.opts.Namespace), 10*w.opts.MaxObjects, w.mark)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if err := local.Run(ctx); err != nil {
			cancel(fmt.Errorf("watch: local cluster: %w", err))
		}
	})
	wg.Go(func() {
		if err := w.registry.Run(ctx); err != nil {
			cancel(err)
		}
	})
	wg.Go(func() { w.resolve(ctx) })
	select {
	case <-ctx.Done():
	case <-local.Synced():
		w.swap(string(w.opts.Cluster), local)
		w.loop(ctx)
	}
	cancel(nil)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// Snapshot returns the newest snapshot, or nil before the first.
func (w *Watcher) Snapshot() *federation.Snapshot { return w.latest.Load() }

// Subscribe returns a channel with the newest snapshot; one that was not taken
// in time is replaced. Call it before Run.
func (w *Watcher) Subscribe() <-chan *federation.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	ch := make(chan *federation.Snapshot, 1)
	w.subs = append(w.subs, ch)
	return ch
}

// Statuses returns the state of every linked cluster as this replica sees it.
func (w *Watcher) Statuses() []registry.Status { return w.registry.Statuses() }

// Refusals returns the remote secrets that lead to no cluster of their own.
func (w *Watcher) Refusals() []registry.Refusal { return w.registry.Refusals() }

// Ready returns nil when the first snapshot is out and every linked cluster has
// been read, or 30 s after the start; before, it says what is waited for.
func (w *Watcher) Ready() error {
	unread := w.reads.Load()
	switch {
	case unread == nil:
		return errors.New("the local cluster is being read")
	case len(*unread) == 0 || time.Since(w.start) > readyAfter:
		return nil
	}
	return fmt.Errorf("clusters are being read: %v", *unread)
}

// Unread lists the clusters that have not been read since the start; their
// exports come from the checkpoint.
func (w *Watcher) Unread() []string {
	if unread := w.reads.Load(); unread != nil {
		return *unread
	}
	return nil
}

// Runs reports whether a pod of that account is in the own cluster, as far as
// is known: before the cluster has been read nobody is missing.
func (w *Watcher) Runs(namespace, account string) bool {
	w.mu.Lock()
	local := w.feeds[w.opts.Cluster]
	w.mu.Unlock()
	return local == nil || local.runs(namespace, account)
}

func (w *Watcher) mark() {
	select {
	case w.dirty <- struct{}{}:
	default:
	}
}

// open makes the reader of a remote cluster.
func (w *Watcher) open(c registry.Cluster) registry.Reader {
	client := &http.Client{Transport: c.Client.Transport, CheckRedirect: c.Client.CheckRedirect}
	return newFeed(&rest.Config{Host: c.Server}, client, w.scheme, remoteResources(w.opts.Namespace), w.opts.MaxObjects, w.mark)
}

// swap puts a feed that has synced into use.
func (w *Watcher) swap(cluster string, now registry.Reader) {
	f := now.(*feed)
	f.compareAll()
	w.mu.Lock()
	w.feeds[federation.ClusterName(cluster)] = f
	w.mu.Unlock()
	w.mark()
}

func (w *Watcher) remove(cluster string) {
	w.mu.Lock()
	delete(w.feeds, federation.ClusterName(cluster))
	w.mu.Unlock()
	w.mark()
}
