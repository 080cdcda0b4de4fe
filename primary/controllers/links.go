package controllers

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/remote/registry"
)

// Links writes the status of every ClusterLink, and makes one for a remote
// secret that has none. All replicas take link state from there.
type Links struct {
	local     *Local
	namespace string
	cluster   federation.ClusterName
	remotes   Remotes
	prober    *Prober
	elsewhere bool // the secrets are in another cluster
	log       *slog.Logger
	metrics   *linkMetrics
	started   time.Time
	poke      chan struct{}
	missing   map[string]time.Time // clusters without a link, since when; Run's alone
	tally     tally                // Run's alone
	written   map[string]time.Time // links, when their status was; Run's alone

	mu   sync.Mutex
	snap *federation.Snapshot
}

// Remotes tells what is known of the linked clusters.
type Remotes interface {
	Statuses() []registry.Status
	Refusals() []registry.Refusal
}

// linkInterval is how often the state is looked at even if nobody said that it changed.
const linkInterval = 500 * time.Millisecond

// makeAfter is how long a remote secret may be without a link before one is
// made for it: `isthmus unlink` removes the link first.
const makeAfter = 5 * time.Second

// countInterval is how long a status that is right but for its counts stays at
// least as it was written: endpoints come and go all the time.
const countInterval = 10 * time.Second

// annotationMade is on links that were made for a secret, and go with it.
const annotationMade = "isthmus.dev/made-for-secret"

// NewLinks returns the controller. SetProber must be called before Run.
func NewLinks(local *Local, namespace string, cluster federation.ClusterName, remotes Remotes, metrics prometheus.Registerer, log *slog.Logger) *Links {
	return &Links{
		local: local, namespace: namespace, cluster: cluster, remotes: remotes, metrics: newLinkMetrics(metrics), log: log,
		started: time.Now(), poke: make(chan struct{}, 1), missing: map[string]time.Time{}, written: map[string]time.Time{},
	}
}

// SetProber gives the prober whose findings go into the status.
func (r *Links) SetProber(p *Prober) { r.prober = p }

// SecretsElsewhere says that the remote secrets are not in the cluster of the links: on
// behalf of a remote, whose primary keeps them.
func (r *Links) SecretsElsewhere() { r.elsewhere = true }

// Poke has the state looked at now. It does not block.
func (r *Links) Poke() {
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

// Update hands over the newest snapshot; see Imports.Update.
func (r *Links) Update(s *federation.Snapshot) {
	r.mu.Lock()
	r.snap = s
	r.mu.Unlock()
	r.Poke()
}

// Run works until ctx ends; only the elected replica runs it.
func (r *Links) Run(ctx context.Context) error {
	stop, err := watchKind(ctx, r.local, &v1alpha1.ClusterLink{}, func(client.Object) { r.Poke() })
	if err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	defer stop()
	ticker := time.NewTicker(linkInterval)
	defer ticker.Stop()
	defer r.metrics.keep(nil) // only the elected replica shows them
	failing := ""
	for {
		if err := r.look(ctx); err != nil && ctx.Err() == nil {
			if failing != err.Error() {
				r.log.Warn("write link status", "err", err)
			}
			failing = err.Error()
		} else {
			failing = ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-r.poke:
		}
	}
}

// look brings every link's status up to date.
func (r *Links) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var list v1alpha1.ClusterLinkList
	if err := r.local.List(ctx, &list, client.InNamespace(r.namespace)); err != nil {
		return err
	}
	statuses := map[string]*registry.Status{}
	for _, s := range r.remotes.Statuses() {
		statuses[s.Cluster] = &s
	}
	refused := map[string]string{}
	for _, f := range r.remotes.Refusals() {
		refused[f.Cluster] = f.Reason
	}
	missing, clusters := maps.Clone(statuses), map[string]bool{}
	for i := range list.Items {
		link := &list.Items[i]
		delete(missing, link.Spec.Cluster)
		clusters[link.Spec.Cluster] = true
		status := statuses[link.Spec.Cluster]
		if status == nil && link.Annotations[annotationMade] != "" {
			if err := r.local.Delete(ctx, link); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("delete link %s: %w", link.Name, err)
			}
			continue
		}
		if err := r.write(ctx, link, r.facts(link, status, refused[link.Spec.Cluster])); err != nil {
			return fmt.Errorf("link %s: %w", link.Name, err)
		}
	}
	r.metrics.keep(clusters)
	maps.DeleteFunc(r.written, func(name string, _ time.Time) bool {
		return !slices.ContainsFunc(list.Items, func(l v1alpha1.ClusterLink) bool { return l.Name == name })
	})
	return r.makeMissing(ctx, missing, time.Now())
}

// makeMissing makes a link for each remote secret that has been without one for
// a while: somebody wrote the secret by hand.
func (r *Links) makeMissing(ctx context.Context, missing map[string]*registry.Status, now time.Time) error {
	maps.DeleteFunc(r.missing, func(name string, _ time.Time) bool { return missing[name] == nil })
	for name, status := range missing {
		since, known := r.missing[name]
		if !known {
			r.missing[name] = now
		}
		if !known || now.Sub(since) < makeAfter {
			continue
		}
		if found, err := r.hasSecret(ctx, status.Secret); err != nil || !found {
			return err
		}
		link := &v1alpha1.ClusterLink{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: r.namespace, Name: name,
				Labels: map[string]string{api.LabelManagedBy: api.ManagedBy}, Annotations: map[string]string{annotationMade: status.Secret},
			},
			Spec: v1alpha1.ClusterLinkSpec{Cluster: name, SecretName: status.Secret},
		}
		if err := r.local.Create(ctx, link); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("make link %s: %w", name, err)
		}
	}
	return nil
}

func (r *Links) hasSecret(ctx context.Context, name string) (bool, error) {
	if r.elsewhere {
		return true, nil
	}
	var secret corev1.Secret
	return present(r.local.Direct.Get(ctx, objectKey{Namespace: r.namespace, Name: name}, &secret))
}

func (r *Links) write(ctx context.Context, link *v1alpha1.ClusterLink, facts linkFacts) error {
	now := time.Now()
	want := linkStatus(link.Status, facts, now)
	r.metrics.set(link.Spec.Cluster, want)
	if sameButCounts(link.Status, want) && (sameCounts(link.Status, want) || now.Sub(r.written[link.Name]) < countInterval) {
		return nil
	}
	r.written[link.Name] = now
	if link.Status.State != want.State {
		r.log.Info("link changed", "cluster", link.Spec.Cluster, "from", link.Status.State, "state", want.State, "message", want.Message)
	}
	out := &v1alpha1.ClusterLink{ObjectMeta: metav1.ObjectMeta{Namespace: link.Namespace, Name: link.Name}, Status: want}
	return client.IgnoreNotFound(r.local.applyStatus(ctx, out))
}

// sameButCounts reports whether two statuses say the same of all else.
func sameButCounts(a, b v1alpha1.ClusterLinkStatus) bool {
	a.Exports, a.Endpoints = b.Exports, b.Endpoints
	return equality.Semantic.DeepEqual(a, b)
}

func sameCounts(a, b v1alpha1.ClusterLinkStatus) bool {
	return a.Exports == b.Exports && a.Endpoints == b.Endpoints
}

// facts gathers what is known of a link's cluster.
func (r *Links) facts(link *v1alpha1.ClusterLink, status *registry.Status, refused string) linkFacts {
	r.mu.Lock()
	s := r.snap
	r.mu.Unlock()
	name := federation.ClusterName(link.Spec.Cluster)
	f := linkFacts{Cluster: link.Spec.Cluster, Generation: link.Generation, Started: r.started, Remote: status, Refused: refused}
	_, f.BadDrain = federation.ParseDrain(link.Annotations[api.AnnotationDrain])
	here, there := s.Cluster(r.cluster), s.Cluster(name)
	if there != nil {
		f.Drain, f.KeptAway, f.Read = there.Drain, there.KeptAway, there.Read
	}
	if here == nil || there == nil || !there.Read && len(there.Gateways) == 0 {
		return f
	}
	f.Known, f.Network, f.SameNetwork = true, string(there.Network), there.Network == here.Network
	n := r.tally.of(s, name)
	f.Exports, f.Endpoints = n.exports, n.endpoints
	if !f.SameNetwork && r.prober != nil {
		f.Gateways = r.prober.gateways(name)
	}
	return f
}
