package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Cluster is a remote cluster as one accepted secret gives access to it.
type Cluster struct {
	Name   string
	Server string       // https://HOST:PORT
	Client *http.Client // authenticated; follows no redirect; belongs to the registry
}

// Reader reads one cluster for the registry's caller.
type Reader interface {
	// Run reads until ctx ends. An error before that means that it gave up, for
	// example over its budget; it is tried anew later.
	Run(ctx context.Context) error
	// Synced is closed when everything has been listed once.
	Synced() <-chan struct{}
	// Trouble says what keeps it from being up to date, or "".
	Trouble() string
}

// Options configures a Registry. Open, Swap and Remove are called from one
// goroutine for each cluster, and never for one cluster at the same time.
type Options struct {
	Local     *rest.Config // required; the cluster whose secrets are read
	Namespace string       // required; the only namespace that secrets are read from
	Cluster   string       // required; this cluster's name

	// Self leads to Cluster where that is not the cluster of Local: a control plane
	// reads on behalf of a remote then, whose peers' secrets it keeps at home. nil
	// means Local.
	Self *rest.Config
	// Home is the cluster of Local, in that case: a member without a secret.
	Home *Home

	Open   func(Cluster) Reader             // required; makes a reader, does not dial
	Swap   func(cluster string, now Reader) // required; now has synced, what was before it ends
	Remove func(cluster string)             // required; the cluster was unlinked
	Change func()                           // some status changed; must not block; nil is none

	// AllowServers lists hosts ("HOST" or "HOST:PORT") that may be loopback or
	// link-local. Tests need it, and nobody else should.
	AllowServers []string
	// Grace is how long a cluster outlives its secret, so that one that is
	// deleted and made again loses nothing; 0 means 3 s.
	Grace time.Duration
	// ProbeEvery is the time between two probes that are answered, and
	// ReachableFor how long one answer counts; 0 means 2 s and 10 s.
	ProbeEvery, ReachableFor time.Duration
	Log                      *slog.Logger // nil discards
}

// Registry holds the linked clusters.
type Registry struct {
	opts Options
	kick chan struct{}

	mu      sync.Mutex
	secrets map[string]remote // by secret; nil until listed
	members map[string]*member
	gates   map[string]*gate // by cluster; outlive members
	surplus []remote
	uids    map[string]string          // UID of kube-system to cluster name, "" for ourselves
	leaving map[string]<-chan struct{} // clusters that are ending, until the channel closes
	looked  bool                       // reconcile has seen the secrets
}

// New checks opts.
func New(opts Options) (*Registry, error) {
	if opts.Local == nil || opts.Namespace == "" || opts.Cluster == "" || opts.Open == nil || opts.Swap == nil || opts.Remove == nil {
		return nil, errors.New("registry: Local, Namespace, Cluster, Open, Swap and Remove are required")
	}
	if opts.Grace == 0 {
		opts.Grace = 3 * time.Second
	}
	if opts.ProbeEvery == 0 {
		opts.ProbeEvery = probeEvery
	}
	if opts.ReachableFor == 0 {
		opts.ReachableFor = reachableFor
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Change == nil {
		opts.Change = func() {}
	}
	return &Registry{opts: opts, kick: make(chan struct{}, 1), members: map[string]*member{}, gates: map[string]*gate{}, uids: map[string]string{}, leaving: map[string]<-chan struct{}{}}, nil
}

// Run watches the secrets and keeps their clusters until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(r.opts.Local)
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { r.watchSecrets(ctx, client) })
	self := client
	if r.opts.Self != nil {
		if self, err = kubernetes.NewForConfig(r.opts.Self); err != nil {
			return fmt.Errorf("registry: %w", err)
		}
		wg.Go(func() { _ = r.knowOurselves(ctx, self) }) // a remote that does not answer holds up nobody
	} else if err := r.knowOurselves(ctx, self); err != nil {
		return nil // ctx ended
	}
	var regrace <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.kick:
		case <-regrace:
		}
		regrace = nil
		if wait := r.reconcile(ctx, &wg, time.Now()); wait > 0 {
			regrace = time.After(wait)
		}
	}
}

// knowOurselves learns the local cluster's UID, so that a secret that leads
// back here is found out. The error is that of ctx.
func (r *Registry) knowOurselves(ctx context.Context, client kubernetes.Interface) error {
	for {
		ns, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
		if err == nil {
			r.mu.Lock()
			r.uids[string(ns.UID)] = ""
			r.mu.Unlock()
			return nil
		}
		r.opts.Log.Warn("read own cluster", "cluster", r.opts.Cluster, "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// reconcile starts, updates and ends members. It returns when to be called
// again for clusters in their grace; 0 is never.
func (r *Registry) reconcile(ctx context.Context, wg *sync.WaitGroup, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.secrets == nil {
		return 0
	}
	used := map[string]string{}
	for name, m := range r.members {
		used[name] = m.secret
	}
	chosen, surplus := choose(r.known(), used)
	r.surplus = surplus
	for name, s := range chosen {
		m := r.members[name]
		if m == nil {
			m = newMember(r, name)
			r.members[name] = m
			mctx, cancel := context.WithCancel(ctx)
			m.cancel = cancel
			before := r.leaving[name]
			wg.Go(func() { m.run(mctx, before) })
		}
		m.deliver(s)
	}
	var wait time.Duration
	for name, m := range r.members {
		if _, ok := chosen[name]; ok {
			m.goneAt = time.Time{}
			continue
		}
		if m.goneAt.IsZero() {
			m.goneAt = now
		}
		if left := r.opts.Grace - now.Sub(m.goneAt); left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		delete(r.members, name)
		r.release(name)
		r.leaving[name] = m.done
		m.cancel() // run calls Remove
	}
	r.looked = true
	r.opts.Change()
	return wait
}

// claim ties a cluster's UID to its name, and says why it cannot be.
func (r *Registry) claim(uid, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	owner, taken := r.uids[uid]
	switch {
	case taken && owner == "":
		return refused("the kubeconfig leads to this very cluster")
	case taken && owner != name:
		return refused("the kubeconfig leads to the cluster that is linked as %q already", owner)
	}
	r.release(name) // a cluster that was made anew has another UID
	r.uids[uid] = name
	return nil
}

func (r *Registry) release(name string) {
	maps.DeleteFunc(r.uids, func(_, owner string) bool { return owner == name })
}

func (r *Registry) setSecrets(change func(map[string]remote)) {
	r.mu.Lock()
	if r.secrets == nil {
		r.secrets = map[string]remote{}
	}
	change(r.secrets)
	r.mu.Unlock()
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

func (r *Registry) check(s *corev1.Secret) remote {
	return check(s, r.opts.Cluster, r.opts.AllowServers)
}
