package controllers

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
)

// Bundles keeps the trust bundle as a ConfigMap in every namespace, from which
// proxies take it.
type Bundles struct {
	local  *Local
	bundle func() []byte
	loop   *loop
}

// NewBundles returns the controller. bundle gives the PEM of the moment.
func NewBundles(local *Local, bundle func() []byte, log *slog.Logger) *Bundles {
	r := &Bundles{local: local, bundle: bundle}
	r.loop = &loop{name: "bundle", workers: 4, do: r.reconcile, log: log}
	return r
}

// Update is no concern of this controller.
func (r *Bundles) Update(*federation.Snapshot) {}

// Run works until ctx ends; only the elected replica runs it.
func (r *Bundles) Run(ctx context.Context) error {
	ofNamespace := func(o client.Object) { r.loop.add(objectKey{Name: o.GetName()}) }
	stop, err := watchKind(ctx, r.local, &corev1.Namespace{}, ofNamespace)
	if err != nil {
		return fmt.Errorf("watch namespaces: %w", err)
	}
	defer stop()
	stop, err = watchKind(ctx, r.local, &corev1.ConfigMap{}, func(o client.Object) { r.loop.add(objectKey{Name: o.GetNamespace()}) })
	if err != nil {
		return fmt.Errorf("watch bundles: %w", err)
	}
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go r.follow(ctx)
	return r.loop.run(ctx, r.all)
}

// follow marks every namespace when the bundle has changed.
func (r *Bundles) follow(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	last := string(r.bundle())
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if now := string(r.bundle()); now != last {
			last = now
			keys, err := r.all(ctx)
			if err != nil {
				last = "" // again at the next tick
			}
			for _, key := range keys {
				r.loop.add(key)
			}
		}
	}
}

func (r *Bundles) all(ctx context.Context) ([]objectKey, error) {
	var list corev1.NamespaceList
	if err := r.local.List(ctx, &list); err != nil {
		return nil, err
	}
	var out []objectKey
	for i := range list.Items {
		out = append(out, objectKey{Name: list.Items[i].Name})
	}
	return out, nil
}

func (r *Bundles) reconcile(ctx context.Context, key objectKey) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var ns corev1.Namespace
	if found, err := present(r.local.Get(ctx, key, &ns)); err != nil || !found || ns.DeletionTimestamp != nil {
		return err
	}
	want := string(r.bundle())
	var have corev1.ConfigMap
	found, err := present(r.local.Get(ctx, objectKey{Namespace: key.Name, Name: api.BundleConfigMapName}, &have))
	if err != nil || found && have.Data[api.BundleKey] == want {
		return err
	}
	out := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Name, Name: api.BundleConfigMapName},
		Data:       map[string]string{api.BundleKey: want},
	}
	if by := have.Labels[api.LabelManagedBy]; by == "" || by == api.ManagedBy { // not that of isthmus-system, which is Helm's
		out.Labels = map[string]string{api.LabelManagedBy: api.ManagedBy}
	}
	err = r.local.apply(ctx, out)
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	return err
}
