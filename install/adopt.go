package install

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// HelmFieldOwner is the field owner of what the program helm applies, and of what we apply in its place.
const HelmFieldOwner = "helm"

// ApplyAs writes objs, as Apply does, under the name of a field owner, and waits for nothing.
func ApplyAs(ctx context.Context, config *rest.Config, owner string, objs []*unstructured.Unstructured, progress Progress) error {
	client, err := newClient(config)
	if err != nil {
		return err
	}
	for _, obj := range objs {
		progress.say("apply %s", title(obj))
		if err := applyOne(ctx, client, obj, owner); err != nil {
			return fmt.Errorf("apply %s: %w", title(obj), err)
		}
	}
	return nil
}

// Adopt gives the fields of objs that Apply has written in an earlier version to Helm, so that what the chart
// says no more is taken away with the next revision. It changes nothing else.
func Adopt(ctx context.Context, config *rest.Config, objs []*unstructured.Unstructured) error {
	client, err := newClient(config)
	if err != nil {
		return err
	}
	for _, obj := range objs {
		if obj.GetKind() == "CustomResourceDefinition" {
			continue // ours for good
		}
		if err := adoptOne(ctx, client, obj); err != nil {
			return fmt.Errorf("%s: %w", title(obj), err)
		}
	}
	return nil
}

func adoptOne(ctx context.Context, client dynamic.Interface, obj *unstructured.Unstructured) error {
	r := resource(client, obj)
	found, err := r.Get(ctx, obj.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	fields := found.GetManagedFields()
	applied := func(owner string) func(metav1.ManagedFieldsEntry) bool {
		return func(f metav1.ManagedFieldsEntry) bool {
			return f.Manager == owner && f.Operation == metav1.ManagedFieldsOperationApply
		}
	}
	i := slices.IndexFunc(fields, applied(FieldOwner))
	if i < 0 || slices.ContainsFunc(fields, applied(HelmFieldOwner)) {
		return nil
	}
	fields[i].Manager = HelmFieldOwner
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/resourceVersion", "value": found.GetResourceVersion()},
		{"op": "replace", "path": "/metadata/managedFields", "value": fields},
	})
	if err != nil {
		return err
	}
	_, err = r.Patch(ctx, obj.GetName(), types.JSONPatchType, patch, metav1.PatchOptions{})
	return err
}
