package release

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install"
)

// prepare writes what the release needs before it is made: the namespace in which it is kept, and the authority beside
// it. Where there is no release yet, it also makes the fields of objects which an earlier version has applied the release's.
func (h *handle) prepare(ctx context.Context, objs []*unstructured.Unstructured, first bool) error {
	var before []*unstructured.Unstructured
	for _, obj := range objs {
		switch obj.GetName() {
		case install.Namespace, api.CASecretName, api.BundleConfigMapName:
			before = append(before, h.owned(obj))
		}
	}
	if first {
		h.say("look for objects of an earlier version")
		if err := install.Adopt(ctx, h.opts.Config, objs); err != nil {
			return fmt.Errorf("take over what an earlier version has applied: %w", err)
		}
	}
	return install.ApplyAs(ctx, h.opts.Config, install.HelmFieldOwner, before, h.opts.Progress)
}

// ensureNamespace makes the namespace, as prepare does, where it is not there.
func (h *handle) ensureNamespace(ctx context.Context, objs []*unstructured.Unstructured) (made bool, err error) {
	_, err = h.kube.CoreV1().Namespaces().Get(ctx, install.Namespace, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return false, err
	}
	for _, obj := range objs {
		if obj.GetKind() == "Namespace" {
			made = true
			err = install.ApplyAs(ctx, h.opts.Config, install.HelmFieldOwner, []*unstructured.Unstructured{h.owned(obj)}, nil)
		}
	}
	return made, err
}

// removeNamespace deletes the namespace, and waits a while until it has gone: nothing can be made in one that goes.
func (h *handle) removeNamespace(ctx context.Context) error {
	namespaces := h.kube.CoreV1().Namespaces()
	if err := namespaces.Delete(ctx, install.Namespace, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("delete namespace %s: %w", install.Namespace, err)
	}
	err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		_, err := namespaces.Get(ctx, install.Namespace, metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
	if err != nil {
		return fmt.Errorf("namespace %s has not gone yet: %w", install.Namespace, err)
	}
	return nil
}

// owned returns obj as Helm writes it: with the release's name, so that a later release may take it over.
func (h *handle) owned(obj *unstructured.Unstructured) *unstructured.Unstructured {
	out := obj.DeepCopy()
	annotations := out.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations["meta.helm.sh/release-name"] = h.name
	annotations["meta.helm.sh/release-namespace"] = install.Namespace
	out.SetAnnotations(annotations)
	return out
}

func (h *handle) say(text string) {
	if h.opts.Progress != nil {
		h.opts.Progress(text)
	}
}
