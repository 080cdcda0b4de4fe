// Package controllers holds what the elected control plane writes: imports and
// export conditions of the MCS API, the trust bundle in every namespace, the
// state of links, and the probes of remote gateways behind it. Each reads,
// decides by a pure function, and writes by server-side apply.
package controllers

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
)

// FieldOwner owns all that the controllers write.
const FieldOwner = "isthmusd"

// indexService finds imported slices by the name of their service.
const indexService = "isthmus.service"

// Local is the cluster that the controllers write to: reads come from a cache
// that holds only what they need, writes go to the API server.
type Local struct {
	client.Client
	Cache cache.Cache
	// Direct reads from the API server: for single objects of kinds that are not
	// worth a watch, or that may not be watched in every namespace.
	Direct client.Reader
}

// Scheme returns a scheme with all kinds that the controllers use.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, mcsv1beta1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// NewLocal returns the cluster that config leads to. It asks the API server for
// the kinds it serves; run its Cache before reading.
func NewLocal(config *rest.Config, namespace string) (*Local, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	if namespace == "" {
		namespace = api.SystemNamespace
	}
	managed := labels.SelectorFromSet(labels.Set{api.LabelManagedBy: api.ManagedBy})
	c, err := cache.New(config, cache.Options{
		Scheme:           scheme,
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Service{}:            {Label: managed},
			&discoveryv1.EndpointSlice{}: {Label: labels.SelectorFromSet(labels.Set{discoveryv1.LabelManagedBy: api.ManagedBy})},
			&corev1.ConfigMap{}:          {Field: fields.OneTermEqualSelector("metadata.name", api.BundleConfigMapName)},
			&v1alpha1.ClusterLink{}:      {Namespaces: map[string]cache.Config{namespace: {}}},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	// A namespace may have thousands of imports: the slices of one are found by name.
	err = c.IndexField(context.Background(), &discoveryv1.EndpointSlice{}, indexService, func(o client.Object) []string { return []string{o.GetLabels()[labelServiceName]} })
	if err != nil {
		return nil, fmt.Errorf("index slices: %w", err)
	}
	cl, err := client.New(config, client.Options{Scheme: scheme, Cache: &client.CacheOptions{Reader: c}})
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	direct, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return &Local{Client: cl, Cache: c, Direct: direct}, nil
}

// apply writes obj, which holds exactly what we own, by server-side apply. What
// the server made of it comes back in obj.
func (l *Local) apply(ctx context.Context, obj client.Object) error {
	data, err := l.intent(obj, func(m map[string]any) { delete(m, "status") })
	if err != nil {
		return err
	}
	return l.Patch(ctx, obj, client.RawPatch(types.ApplyPatchType, data), client.FieldOwner(FieldOwner), client.ForceOwnership)
}

// applyStatus writes obj's status alone.
func (l *Local) applyStatus(ctx context.Context, obj client.Object) error {
	data, err := l.intent(obj, func(m map[string]any) {
		delete(m, "spec")
		m["metadata"] = map[string]any{"name": obj.GetName(), "namespace": obj.GetNamespace()}
	})
	if err != nil {
		return err
	}
	return l.Status().Patch(ctx, obj, client.RawPatch(types.ApplyPatchType, data), client.FieldOwner(FieldOwner), client.ForceOwnership)
}

// intent encodes obj as an apply patch, without what only servers write.
func (l *Local) intent(obj client.Object, trim func(map[string]any)) ([]byte, error) {
	gvk, err := l.GroupVersionKindFor(obj)
	if err != nil {
		return nil, err
	}
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, err
	}
	m["apiVersion"], m["kind"] = gvk.GroupVersion().String(), gvk.Kind
	if meta, ok := m["metadata"].(map[string]any); ok {
		for _, key := range []string{"creationTimestamp", "resourceVersion", "uid", "managedFields", "generation"} {
			delete(meta, key)
		}
	}
	trim(m)
	return json.Marshal(m)
}

// objectKey is the name of an object.
type objectKey = types.NamespacedName
