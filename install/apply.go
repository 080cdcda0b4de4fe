package install

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// FieldOwner owns what Apply writes.
const FieldOwner = "isthmus"

// AnnotationInstall with the value IfAbsent marks an object that Apply leaves
// alone where somebody else has brought it already.
const (
	AnnotationInstall = "isthmus.dev/install"
	IfAbsent          = "if-absent"
)

// Progress is told of each step; it may be nil. It is called from one goroutine.
type Progress func(step string)

func (p Progress) say(format string, args ...any) {
	if p != nil {
		p(fmt.Sprintf(format, args...))
	}
}

// Apply writes objs in their order by server-side apply, waits until every CRD
// among them is served, and last until every Deployment is available. It may be
// run any number of times. The context bounds the wait.
func Apply(ctx context.Context, config *rest.Config, objs []*unstructured.Unstructured, progress Progress) error {
	client, err := newClient(config)
	if err != nil {
		return err
	}
	if err := write(ctx, client, objs, progress); err != nil {
		return err
	}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	for _, obj := range objs {
		if obj.GetKind() != "Deployment" {
			continue
		}
		progress.say("wait for %s", title(obj))
		if err := WaitRollout(ctx, kube, obj.GetNamespace(), obj.GetName()); err != nil {
			return err
		}
	}
	return nil
}

// ApplyCRDs writes the definitions alone and waits until they are served.
func ApplyCRDs(ctx context.Context, config *rest.Config) error {
	objs, err := CRDs()
	if err != nil {
		return err
	}
	client, err := newClient(config)
	if err != nil {
		return err
	}
	if err := write(ctx, client, objs, nil); err != nil {
		return err
	}
	return waitEstablished(ctx, client, objs)
}

func newClient(config *rest.Config) (dynamic.Interface, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 100, 200
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return client, nil
}

// write applies objs; after the CRDs it waits until they are served.
func write(ctx context.Context, client dynamic.Interface, objs []*unstructured.Unstructured, progress Progress) error {
	crds := 0
	for crds < len(objs) && objs[crds].GetKind() == "CustomResourceDefinition" {
		crds++
	}
	for _, obj := range objs[:crds] { // before anything is changed
		if _, err := leaveAlone(ctx, resource(client, obj), obj); err != nil {
			return fmt.Errorf("%s: %w", title(obj), err)
		}
	}
	for i, obj := range objs {
		if i == crds && crds > 0 {
			if err := waitEstablished(ctx, client, objs[:crds]); err != nil {
				return err
			}
		}
		progress.say("apply %s", title(obj))
		if err := applyOne(ctx, client, obj, FieldOwner); err != nil {
			return fmt.Errorf("apply %s: %w", title(obj), err)
		}
	}
	return nil
}

// applyOne writes one object, trying again for a short while where the server
// says that it is not ready for it yet.
func applyOne(ctx context.Context, client dynamic.Interface, obj *unstructured.Unstructured, owner string) error {
	r := resource(client, obj)
	if skip, err := leaveAlone(ctx, r, obj); skip || err != nil {
		return err
	}
	data, err := json.Marshal(obj)
	if err != nil {
		return err
	}
	var last error
	err = wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, 10*time.Second, true, func(ctx context.Context) (bool, error) {
		_, last = r.Patch(ctx, obj.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: owner, Force: new(true)})
		switch {
		case last == nil:
			return true, nil
		case retryable(last):
			return false, nil
		default:
			return false, last
		}
	})
	if err != nil && last != nil {
		return hint(obj, last)
	}
	return err
}

// hint says what to do where the server is too old for a kind that can be left out.
func hint(obj *unstructured.Unstructured, err error) error {
	if obj.GetKind() == "ValidatingAdmissionPolicy" && apierrors.IsNotFound(err) {
		return fmt.Errorf("%w: Kubernetes before 1.30 does not know it: install with imports.guard=false", err)
	}
	return err
}

// retryable reports whether a moment later the same write may pass: a kind that
// is not served yet, a server that is busy or still starting.
func retryable(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.IsServerTimeout(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err) || apierrors.IsConflict(err)
}

// mayBeTheirs reports whether objects of obj's kind may be there by somebody
// else's hand.
func mayBeTheirs(obj *unstructured.Unstructured) bool {
	return obj.GetKind() == "CustomResourceDefinition" || obj.GetKind() == "ClusterProperty"
}

// leaveAlone reports whether obj is there by somebody else's hand and not ours
// to change: a definition marked IfAbsent, one of the MCS API that serves
// the versions we use, or the cluster's name where it is the same.
func leaveAlone(ctx context.Context, r dynamic.ResourceInterface, obj *unstructured.Unstructured) (bool, error) {
	if !mayBeTheirs(obj) {
		return false, nil
	}
	found, err := r.Get(ctx, obj.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for it: %w", err)
	}
	if ours(found) {
		return false, nil
	}
	if obj.GetAnnotations()[AnnotationInstall] == IfAbsent {
		return true, nil
	}
	if obj.GetKind() == "ClusterProperty" {
		return true, sameValue(found, obj)
	}
	group, _, _ := unstructured.NestedString(obj.Object, "spec", "group")
	if group != "multicluster.x-k8s.io" {
		return false, nil
	}
	if !serves(found, "v1beta1") || !serves(found, "v1alpha1") {
		return false, fmt.Errorf("somebody else's definition does not serve v1alpha1 and v1beta1: update it to mcs-api v0.5 or later, or delete it")
	}
	return true, nil
}

// sameValue is an error where somebody has given the cluster another name.
func sameValue(found, want *unstructured.Unstructured) error {
	have, _, _ := unstructured.NestedString(found.Object, "spec", "value")
	name, _, _ := unstructured.NestedString(want.Object, "spec", "value")
	if have != name {
		return fmt.Errorf("somebody else has given it the value %q, not %q: install under that name, or delete it", have, name)
	}
	return nil
}

// ours reports whether obj has been written by Apply, or by Helm from our chart.
func ours(obj *unstructured.Unstructured) bool {
	if obj.GetLabels()[LabelPartOf] == PartOf {
		return true
	}
	for _, f := range obj.GetManagedFields() {
		if f.Manager == FieldOwner {
			return true
		}
	}
	return false
}

// serves reports whether a definition serves version.
func serves(crd *unstructured.Unstructured, version string) bool {
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, v := range versions {
		if m, ok := v.(map[string]any); ok && m["name"] == version && m["served"] == true {
			return true
		}
	}
	return false
}

// resource returns the client for obj. The plural is guessed from the kind,
// which is right for every kind of the chart.
func resource(client dynamic.Interface, obj *unstructured.Unstructured) dynamic.ResourceInterface {
	plural, _ := meta.UnsafeGuessKindToResource(obj.GroupVersionKind())
	if obj.GetNamespace() == "" {
		return client.Resource(plural)
	}
	return client.Resource(plural).Namespace(obj.GetNamespace())
}

func title(obj *unstructured.Unstructured) string {
	if obj.GetNamespace() == "" {
		return obj.GetKind() + " " + obj.GetName()
	}
	return obj.GetKind() + " " + obj.GetNamespace() + "/" + obj.GetName()
}
