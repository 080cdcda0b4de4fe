package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/federation"
)

// Imports keeps, for every export of the clusterset, a ServiceImport in the
// local cluster, its derived Service and its EndpointSlices.
type Imports struct {
	local   *Local
	cluster federation.ClusterName
	opts    ImportOptions
	log     *slog.Logger
	loop    *loop

	mu      sync.Mutex
	snap    *federation.Snapshot
	follow  follower
	numbers *numbers // of this term
}

// NewImports returns the controller of the imports of opts.Cluster.
func NewImports(local *Local, opts ImportOptions) *Imports {
	r := &Imports{local: local, cluster: opts.Cluster, opts: opts, log: opts.Log}
	r.loop = &loop{name: "import", workers: 4, do: r.reconcile, log: opts.Log}
	return r
}

// Update hands over the newest snapshot. It returns at once, and may be called
// whether or not Run runs.
func (r *Imports) Update(s *federation.Snapshot) {
	r.mu.Lock()
	old := r.snap
	r.snap = s
	changes := r.follow.next(s)
	numbers := r.numbers
	r.mu.Unlock()
	for _, c := range changes {
		r.loop.add(c.key())
	}
	if numbers != nil && !slices.Equal(entriesOf(old, r.cluster), entriesOf(s, r.cluster)) {
		for _, key := range numbers.withPorts() { // their callers are sent to who is gone
			r.loop.add(key)
		}
	}
	if clustersDiffer(old, s) { // any may change, also what was kept for a cluster's sake
		r.loop.again()
	}
}

// entriesOf returns the addresses of cluster's entry gateways.
func entriesOf(s *federation.Snapshot, cluster federation.ClusterName) []netip.Addr {
	if c := s.Cluster(cluster); c != nil {
		return c.Entries
	}
	return nil
}

func (r *Imports) snapshot() *federation.Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.snap
}

// term returns the numbers of this term.
func (r *Imports) term() *numbers {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.numbers
}

// Run works until ctx ends; only the elected replica runs it. It starts once a
// snapshot has been handed over.
func (r *Imports) Run(ctx context.Context) error {
	numbers, err := r.seed(ctx)
	if err != nil {
		return unlessEnded(ctx, err)
	}
	r.mu.Lock()
	r.numbers = numbers
	r.mu.Unlock()
	var keeper sync.WaitGroup
	defer keeper.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	keeper.Go(func() {
		numbers.run(ctx, r.loop.add, func(err error) { r.log.Warn("imports that give something up wait", "err", err) })
	})
	watched := map[client.Object]func(client.Object) []objectKey{
		&mcsv1beta1.ServiceImport{}:  func(o client.Object) []objectKey { return []objectKey{client.ObjectKeyFromObject(o)} },
		&corev1.Service{}:            byServiceName,
		&discoveryv1.EndpointSlice{}: byServiceName,
		&corev1.Namespace{}:          r.ofNamespace,
	}
	for kind, keys := range watched {
		stop, err := watchKind(ctx, r.local, kind, func(o client.Object) {
			for _, key := range keys(o) {
				r.loop.add(key)
			}
		})
		if err != nil {
			return unlessEnded(ctx, fmt.Errorf("watch for imports: %w", err))
		}
		defer stop()
	}
	return r.loop.run(ctx, r.all)
}

// unlessEnded returns err, or nil where ctx has ended, which explains it.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// byServiceName maps what belongs to an import to it.
func byServiceName(o client.Object) []objectKey {
	if name := o.GetLabels()[labelServiceName]; name != "" {
		return []objectKey{{Namespace: o.GetNamespace(), Name: name}}
	}
	return nil
}

// ofNamespace returns what is exported, or has numbers, under a namespace's name.
func (r *Imports) ofNamespace(o client.Object) []objectKey {
	var out []objectKey
	for svc := range r.snapshot().Services() {
		if svc.Key.ClusterSet() && svc.Key.Namespace == o.GetName() {
			out = append(out, keyOf(svc))
		}
	}
	for _, key := range r.term().imports() {
		if key.Namespace == o.GetName() {
			out = append(out, key)
		}
	}
	return out
}

// all returns every import that is or should be, or of which something is left.
func (r *Imports) all(ctx context.Context) ([]objectKey, error) {
	out := r.term().imports()
	for svc := range r.snapshot().Services() {
		if svc.Key.ClusterSet() {
			out = append(out, keyOf(svc))
		}
	}
	var imports mcsv1beta1.ServiceImportList
	var derived corev1.ServiceList
	var endpoints discoveryv1.EndpointSliceList
	read := client.UnsafeDisableDeepCopy // only names are read
	if err := errors.Join(r.local.List(ctx, &imports, read), r.local.List(ctx, &derived, read), r.local.List(ctx, &endpoints, read)); err != nil {
		return nil, err
	}
	for i := range imports.Items {
		out = append(out, client.ObjectKeyFromObject(&imports.Items[i]))
	}
	for i := range derived.Items {
		out = append(out, byServiceName(&derived.Items[i])...)
	}
	for i := range endpoints.Items {
		out = append(out, byServiceName(&endpoints.Items[i])...)
	}
	return out, nil
}

func (r *Imports) reconcile(ctx context.Context, key objectKey) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	have, err := r.observe(ctx, key)
	if err != nil {
		return fmt.Errorf("read import: %w", err)
	}
	snap := r.snapshot()
	var nums given
	if want, known := wantNumbers(snap, r.cluster, key, have); known {
		var noted bool
		if nums, noted = r.term().settle(key, want, time.Now()); !noted {
			return nil // comes again when it is
		}
	}
	plan := planImport(snap, r.cluster, key, have, nums)
	switch {
	case plan.Delete:
		return r.remove(ctx, have)
	case plan.Stranger:
		return r.writeStranger(ctx, have.Import)
	case plan.Import != nil:
		return r.write(ctx, key, have, plan)
	}
	return nil
}

func (r *Imports) observe(ctx context.Context, key objectKey) (importState, error) {
	var out importState
	var ns corev1.Namespace
	switch err := r.local.Get(ctx, objectKey{Name: key.Namespace}, &ns); {
	case apierrors.IsNotFound(err):
	case err != nil:
		return out, err
	default:
		out.NamespaceActive = ns.DeletionTimestamp == nil
	}
	var imp mcsv1beta1.ServiceImport
	if found, err := present(r.local.Get(ctx, key, &imp)); err != nil {
		return out, err
	} else if found {
		out.Import = &imp
	}
	var derived corev1.Service
	if found, err := present(r.local.Get(ctx, objectKey{Namespace: key.Namespace, Name: derivedName(key)}, &derived)); err != nil {
		return out, err
	} else if found {
		out.Derived = &derived
	}
	var list discoveryv1.EndpointSliceList
	err := r.local.List(ctx, &list, client.InNamespace(key.Namespace), client.MatchingFields{indexService: key.Name})
	out.Slices = slices.DeleteFunc(list.Items, func(s discoveryv1.EndpointSlice) bool { return s.Labels[labelSourceCluster] == "" })
	return out, err
}

// present turns "not found" into false.
func present(err error) (bool, error) {
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}
