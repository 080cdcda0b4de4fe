package server

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	corev1informers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/remote/registry"
	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
)

// remotes keeps a plane for each remote that this cluster serves. A remote is
// served where a Secret with the label api.LabelServes holds its intermediate and
// a remote secret leads to it; both are written by whoever installs.
type remotes struct {
	opts   Options
	parts  *parts
	host   *host
	served corev1informers.SecretInformer // with api.LabelServes
	linked corev1informers.SecretInformer // with api.LabelRemoteCluster
	start  []informers.SharedInformerFactory
	kick   chan struct{}

	mu      sync.Mutex
	tenants map[string]*tenant
	leaving map[string]*tenant // the last that ended, or is about to
	refused map[string]string  // by cluster, why it is not served
}

func newRemotes(opts Options, p *parts) (*remotes, error) {
	config := opts.restConfig()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("client of the own cluster: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("server of the own cluster: %w", err)
	}
	r := &remotes{
		opts: opts, parts: p, kick: make(chan struct{}, 1), tenants: map[string]*tenant{}, leaving: map[string]*tenant{}, refused: map[string]string{},
		host: &host{
			config: config, serving: p.serving,
			member: &registry.Home{Cluster: string(opts.Cluster), Server: base.Scheme + "://" + base.Host, Client: client},
			door:   newDoorFinder(p.own.kube, opts.Namespace).find,
		},
	}
	r.served, r.linked = r.secrets(api.LabelServes), r.secrets(api.LabelRemoteCluster)
	return r, nil
}

// secrets returns an informer of the system namespace's Secrets with that label.
func (r *remotes) secrets(label string) corev1informers.SecretInformer {
	factory := informers.NewSharedInformerFactoryWithOptions(r.parts.own.kube, 0, informers.WithNamespace(r.opts.Namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = label }))
	r.start = append(r.start, factory)
	return factory.Core().V1().Secrets()
}

// Run serves remotes as they come and go, until ctx ends.
func (r *remotes) Run(ctx context.Context) error {
	poke := func(any) {
		select {
		case r.kick <- struct{}{}:
		default:
		}
	}
	for _, informer := range []cache.SharedIndexInformer{r.served.Informer(), r.linked.Informer()} {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: poke, UpdateFunc: func(_, now any) { poke(now) }, DeleteFunc: poke}); err != nil {
			return err
		}
	}
	for _, factory := range r.start {
		factory.Start(ctx.Done())
		defer factory.Shutdown()
	}
	if !cache.WaitForCacheSync(ctx.Done(), r.served.Informer().HasSynced, r.linked.Informer().HasSynced) {
		return nil
	}
	var running sync.WaitGroup
	defer running.Wait()
	for {
		if err := r.reconcile(ctx, &running); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.kick:
		}
	}
}

// reconcile starts, changes and ends planes as the Secrets say.
func (r *remotes) reconcile(ctx context.Context, running *sync.WaitGroup) error {
	wanted, refused, err := r.wanted()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, why := range refused {
		if r.refused[name] != why {
			r.opts.Log.Warn("remote cannot be served; what was there before stays", "cluster", name, "err", why)
		}
	}
	r.refused = refused
	for name, t := range r.tenants {
		if _, bad := refused[name]; wanted[name] == nil && !bad || wanted[name] != nil && !t.take(wanted[name]) {
			r.opts.Log.Info("remote is served no longer, or anew", "cluster", name)
			t.cancel()
			delete(r.tenants, name)
			r.leaving[name] = t
		}
	}
	for name, w := range wanted {
		if r.tenants[name] == nil {
			r.tenants[name] = r.begin(ctx, running, w, r.leaving[name])
			delete(r.leaving, name)
		}
	}
	r.parts.own.ads.Serve(r.opts.Cluster, r.names())
	return nil
}

// names lists who is served, sorted. Under mu.
func (r *remotes) names() []federation.ClusterName {
	var out []federation.ClusterName
	for _, name := range slices.Sorted(maps.Keys(r.tenants)) {
		out = append(out, federation.ClusterName(name))
	}
	return out
}

// A remote that is to be served.
type wanted struct {
	cluster  string
	network  string
	access   registry.Access
	material ca.Material
}

// wanted reads the Secrets; refused says why a remote's are no good.
func (r *remotes) wanted() (map[string]*wanted, map[string]string, error) {
	served, err := r.served.Lister().List(labels.Everything())
	if err != nil {
		return nil, nil, err
	}
	linked, err := r.linked.Lister().List(labels.Everything())
	if err != nil {
		return nil, nil, err
	}
	out, refused := map[string]*wanted{}, map[string]string{}
	for _, s := range served {
		name := s.Labels[api.LabelServes]
		w, err := r.one(name, s, linked)
		if err != nil {
			refused[name] = err.Error()
			continue
		}
		out[name] = w
	}
	return out, refused, nil
}

func (r *remotes) one(name string, s *corev1.Secret, linked []*corev1.Secret) (*wanted, error) {
	if !trust.ValidCluster(name) || name == string(r.opts.Cluster) || s.Name != api.ServesSecretPrefix+name {
		return nil, fmt.Errorf("secret %s: label %s=%q names no other cluster, or not that of the Secret's name", s.Name, api.LabelServes, name)
	}
	i := slices.IndexFunc(linked, func(l *corev1.Secret) bool { return l.Name == api.RemoteSecretPrefix+name })
	if i < 0 {
		return nil, fmt.Errorf("there is no remote secret %s: isthmus install with --primary writes it", api.RemoteSecretPrefix+name)
	}
	access, err := registry.ParseKubeconfig(linked[i].Data[api.RemoteKubeconfigKey], r.opts.AllowServers)
	if err != nil {
		return nil, err
	}
	return &wanted{
		cluster: name, network: s.Annotations[api.AnnotationNetwork], access: access,
		material: ca.Material{Chain: s.Data[api.CAChainKey], Key: s.Data[api.CAKeyKey], Bundle: s.Data[api.CABundleKey]},
	}, nil
}

// A tenant is a remote that is served.
type tenant struct {
	of        *remotes
	now       *wanted
	transport *registry.Transport
	cancel    context.CancelFunc
	done      chan struct{} // closed when it has ended

	mu    sync.Mutex
	plane *plane // while it runs
}

// take reports whether the tenant can go on with w: with another token, or signing
// with another intermediate. A refused one leaves what it has.
func (t *tenant) take(w *wanted) bool {
	old := t.now
	if t.transport == nil || w.network != old.network || !sameButToken(w.access, old.access) {
		return false
	}
	if w.access.Token != old.access.Token {
		if err := t.transport.Use(w.access); err != nil {
			return true
		}
	}
	t.mu.Lock()
	running := t.plane
	t.mu.Unlock()
	if running != nil && !w.material.Equal(old.material) {
		if err := running.authority.Replace(w.material); err != nil {
			running.log.Error("the remote's new intermediate cannot be used, the old one stays", "err", err)
			w.material = old.material
		}
	}
	t.now = w
	return true
}

func sameButToken(a, b registry.Access) bool {
	return a.Server == b.Server && a.ServerName == b.ServerName && bytes.Equal(a.CA, b.CA) && bytes.Equal(a.CertPEM, b.CertPEM) && bytes.Equal(a.KeyPEM, b.KeyPEM)
}

// begin starts a tenant when the one before it, which may be nil, has ended: both
// would be elected by the same name.
func (r *remotes) begin(ctx context.Context, running *sync.WaitGroup, w *wanted, before *tenant) *tenant {
	ctx, cancel := context.WithCancel(ctx)
	t := &tenant{of: r, now: w, cancel: cancel, done: make(chan struct{})}
	log := r.opts.Log.With("plane", w.cluster)
	transport, err := registry.NewTransport(w.access, r.opts.AllowServers)
	if err != nil { // ParseKubeconfig has taken it, so it does not come to that
		log.Error("remote cannot be served", "err", err)
		close(t.done)
		return t
	}
	t.transport = transport
	log.Info("remote is served", "server", w.access.Server)
	running.Go(func() {
		defer close(t.done)
		defer transport.Close()
		if before != nil {
			<-before.done
		}
		t.keep(ctx, log)
	})
	return t
}

// keep runs the plane until ctx ends, and again where it fails.
func (t *tenant) keep(ctx context.Context, log *slog.Logger) {
	for wait := time.Second; ctx.Err() == nil; wait = min(2*wait, 30*time.Second) {
		err := t.run(ctx, log)
		if ctx.Err() != nil {
			return
		}
		log.Error("the remote's control plane failed; it is started again", "after", wait, "err", cmp.Or(err, errEnded))
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// errEnded is why a plane is started again that gave no reason.
var errEnded = errors.New("it ended")

func (t *tenant) run(ctx context.Context, log *slog.Logger) error {
	t.of.mu.Lock()
	w := t.now
	t.of.mu.Unlock()
	metrics := prometheus.NewRegistry()
	labelled := prometheus.WrapRegistererWith(prometheus.Labels{"served": w.cluster}, metrics)
	made, err := newPlane(t.of.opts.forRemote(w, t.transport, log), labelled, w.material, t.of.host)
	if err != nil {
		return err
	}
	t.set(made)
	t.of.parts.planes.put(w.cluster, made, metrics)
	defer func() {
		t.of.parts.planes.remove(w.cluster)
		t.set(nil)
	}()
	return made.run(ctx)
}

func (t *tenant) set(p *plane) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.plane = p
}

// Refused says which remotes are to be served and cannot be, and why.
func (r *remotes) Refused() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.refused)
}
