package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
)

// FieldOwner owns what Apply writes.
const FieldOwner = "isthmus-cli"

// Parse splits a stream of YAML documents into objects; empty ones are skipped.
func Parse(manifests []byte) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	dec := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	for {
		var obj unstructured.Unstructured
		switch err := dec.Decode(&obj.Object); {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, fmt.Errorf("decode manifests: %w", err)
		case len(obj.Object) == 0:
			continue
		case obj.GetKind() == "" || obj.GetName() == "":
			return nil, errors.New("decode manifests: an object without kind or name")
		}
		out = append(out, &obj)
	}
}

// Apply writes objs in their order by server-side apply, putting those without a
// namespace into namespace (leave it empty for kinds without one). A server that
// is not ready for an object yet is asked again for ten seconds.
func (c *Cluster) Apply(ctx context.Context, namespace string, objs ...*unstructured.Unstructured) error {
	for _, obj := range objs {
		obj = obj.DeepCopy()
		if obj.GetNamespace() == "" && obj.GetKind() != "Namespace" {
			obj.SetNamespace(namespace)
		}
		if err := c.apply(ctx, obj); err != nil {
			return fmt.Errorf("apply %s %s in %s: %w", obj.GetKind(), obj.GetName(), c.Context, err)
		}
	}
	return nil
}

func (c *Cluster) apply(ctx context.Context, obj *unstructured.Unstructured) error {
	data, err := json.Marshal(obj)
	if err != nil {
		return err
	}
	var last error
	err = wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, 10*time.Second, true, func(ctx context.Context) (bool, error) {
		_, last = c.Resource(obj).Patch(ctx, obj.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: FieldOwner, Force: new(true)})
		if last != nil && !notReady(last) {
			return false, last
		}
		return last == nil, nil
	})
	if last != nil {
		return last
	}
	return err
}

// notReady reports whether the same write may pass a moment later.
func notReady(err error) bool {
	return apierrors.IsServerTimeout(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err)
}

// Delete removes objs; what is absent is no error.
func (c *Cluster) Delete(ctx context.Context, namespace string, objs ...*unstructured.Unstructured) error {
	for _, obj := range objs {
		obj = obj.DeepCopy()
		if obj.GetNamespace() == "" && obj.GetKind() != "Namespace" {
			obj.SetNamespace(namespace)
		}
		err := c.Resource(obj).Delete(ctx, obj.GetName(), metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete %s %s in %s: %w", obj.GetKind(), obj.GetName(), c.Context, err)
		}
	}
	return nil
}

// Resource returns the client for obj's kind and namespace. The plural is
// guessed from the kind, which is right for all kinds that we use.
func (c *Cluster) Resource(obj *unstructured.Unstructured) dynamic.ResourceInterface {
	plural, _ := meta.UnsafeGuessKindToResource(obj.GroupVersionKind())
	if obj.GetNamespace() == "" {
		return c.Dynamic.Resource(plural)
	}
	return c.Dynamic.Resource(plural).Namespace(obj.GetNamespace())
}
