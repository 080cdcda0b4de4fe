package controllers

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

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
	log       *slog.Logger
	started   time.Time
	poke      chan struct{}

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

// NewLinks returns the controller. SetProber must be called before Run.
func NewLinks(local *Local, namespace string, cluster federation.ClusterName, remotes Remotes, log *slog.Logger) *Links {
	return &Links{local: local, namespace: namespace, cluster: cluster, remotes: remotes, log: log, started: time.Now(), poke: make(chan struct{}, 1)}
}

// SetProber gives the prober whose findings go into the status.
func (r *Links) SetProber(p *Prober) { r.prober = p }

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
	missing := maps.Clone(statuses)
	for i := range list.Items {
		link := &list.Items[i]
		delete(missing, link.Spec.Cluster)
		if err := r.write(ctx, link, r.facts(link, statuses[link.Spec.Cluster], refused[link.Spec.Cluster])); err != nil {
			return fmt.Errorf("link %s: %w", link.Name, err)
		}
	}
	for name, status := range missing {
		link := &v1alpha1.ClusterLink{
			ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: name, Labels: map[string]string{api.LabelManagedBy: api.ManagedBy}},
			Spec:       v1alpha1.ClusterLinkSpec{Cluster: name, SecretName: status.Secret},
		}
		if err := r.local.Create(ctx, link); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("make link %s: %w", name, err)
		}
	}
	return nil
}

func (r *Links) write(ctx context.Context, link *v1alpha1.ClusterLink, facts linkFacts) error {
	want := linkStatus(link.Status, facts, time.Now())
	if equality.Semantic.DeepEqual(link.Status, want) {
		return nil
	}
	if link.Status.State != want.State {
		r.log.Info("link changed", "cluster", link.Spec.Cluster, "from", link.Status.State, "state", want.State, "message", want.Message)
	}
	out := &v1alpha1.ClusterLink{ObjectMeta: metav1.ObjectMeta{Namespace: link.Namespace, Name: link.Name}, Status: want}
	return client.IgnoreNotFound(r.local.applyStatus(ctx, out))
}

// facts gathers what is known of a link's cluster.
func (r *Links) facts(link *v1alpha1.ClusterLink, status *registry.Status, refused string) linkFacts {
	r.mu.Lock()
	s := r.snap
	r.mu.Unlock()
	name := federation.ClusterName(link.Spec.Cluster)
	f := linkFacts{Cluster: link.Spec.Cluster, Generation: link.Generation, Started: r.started, Remote: status, Refused: refused}
	here, there := s.Cluster(r.cluster), s.Cluster(name)
	if here == nil || there == nil {
		return f
	}
	f.Known, f.Network, f.SameNetwork = true, string(there.Network), there.Network == here.Network
	f.Exports, f.Endpoints = count(s, name)
	if !f.SameNetwork && r.prober != nil {
		f.Gateways = r.prober.gateways(name)
	}
	return f
}

// count returns how many exports and ready endpoints of them a cluster has.
func count(s *federation.Snapshot, cluster federation.ClusterName) (exports, endpoints int32) {
	for svc := range s.Services() {
		if !svc.Key.ClusterSet() {
			continue
		}
		for i := range svc.Exports {
			if svc.Exports[i].Cluster == cluster {
				exports++
			}
		}
		for i := range svc.Endpoints {
			if svc.Endpoints[i].Cluster == cluster && svc.Endpoints[i].Health == federation.Ready {
				endpoints++
			}
		}
		for _, c := range svc.Counts {
			if c.Cluster == cluster {
				endpoints += int32(c.Ready)
			}
		}
	}
	return exports, endpoints
}
