package install

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install/coredns"
)

// UninstallOptions says how much goes.
type UninstallOptions struct {
	// Purge removes the CRDs too, and with them every user's ServiceExport and
	// ClusterLink. Definitions that somebody else installed stay.
	Purge bool
}

// revisions are the webhooks of further control planes.
var revisions = []leftover{{"MutatingWebhookConfiguration", "admissionregistration.k8s.io/v1", api.LabelRevision}}

type leftover struct{ kind, apiVersion, selector string }

// leftovers are the kinds that isthmusd writes outside its namespace, which bear its label, and
// what further control planes have there.
var leftovers = []leftover{
	{"EndpointSlice", "discovery.k8s.io/v1", "endpointslice.kubernetes.io/managed-by=isthmus"},
	{"ServiceImport", "multicluster.x-k8s.io/v1beta1", "app.kubernetes.io/managed-by=isthmus"},
	{"Service", "v1", "app.kubernetes.io/managed-by=isthmus"},
	{"ConfigMap", "v1", "app.kubernetes.io/managed-by=isthmus"},
	{"ClusterProperty", "about.k8s.io/v1beta1", "app.kubernetes.io/managed-by=isthmus"},
	{"ClusterRole", "rbac.authorization.k8s.io/v1", api.LabelRevision},
	{"ClusterRoleBinding", "rbac.authorization.k8s.io/v1", api.LabelRevision},
}

// Uninstall removes what Apply and isthmusd have written: CoreDNS gets its Corefile
// back, then goes the webhook, so that no pod waits for it, then the namespace, and
// what isthmusd left in others. What is absent already is no error.
func Uninstall(ctx context.Context, config *rest.Config, opts UninstallOptions, progress Progress) error {
	client, err := newClient(config)
	if err != nil {
		return err
	}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	progress.say("give CoreDNS its Corefile back")
	if _, err := coredns.Restore(ctx, kube); err != nil { // while what it watches is still there
		return err
	}
	if err := sweep(ctx, client, revisions, progress); err != nil {
		return err
	}
	objs, err := Render(Values{Cluster: "any", Strict: true})
	if err != nil {
		return err
	}
	slices.Reverse(objs) // Deployments and webhooks first, definitions last
	slices.SortStableFunc(objs, func(a, b *unstructured.Unstructured) int { return boolRank(isWebhook(b)) - boolRank(isWebhook(a)) })
	swept := false
	for _, obj := range objs {
		if obj.GetKind() == "CustomResourceDefinition" && !opts.Purge {
			continue
		}
		if !swept && (obj.GetKind() == "Namespace" || obj.GetKind() == "CustomResourceDefinition") {
			swept = true // isthmusd is gone by now and cannot write them anew
			if err := sweep(ctx, client, leftovers, progress); err != nil {
				return err
			}
		}
		progress.say("delete %s", title(obj))
		if err := remove(ctx, client, obj); err != nil {
			return fmt.Errorf("delete %s: %w", title(obj), err)
		}
	}
	return nil
}

// sweep deletes what is there of kinds, in every namespace.
func sweep(ctx context.Context, client dynamic.Interface, kinds []leftover, progress Progress) error {
	for _, l := range kinds {
		kind := &unstructured.Unstructured{}
		kind.SetAPIVersion(l.apiVersion)
		kind.SetKind(l.kind)
		list, err := resource(client, kind).List(ctx, metav1.ListOptions{LabelSelector: l.selector})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", l.kind, err)
		}
		for i := range list.Items {
			obj := &list.Items[i]
			progress.say("delete %s", title(obj))
			if err := resource(client, obj).Delete(ctx, obj.GetName(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("delete %s: %w", title(obj), err)
			}
		}
	}
	return nil
}

// remove deletes obj and waits until it is gone.
func remove(ctx context.Context, client dynamic.Interface, obj *unstructured.Unstructured) error {
	r := resource(client, obj)
	if mayBeTheirs(obj) {
		found, err := r.Get(ctx, obj.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && !ours(found) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	background := metav1.DeletePropagationForeground
	err := r.Delete(ctx, obj.GetName(), metav1.DeleteOptions{PropagationPolicy: &background})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		_, err := r.Get(ctx, obj.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, nil
	})
}

func isWebhook(obj *unstructured.Unstructured) bool {
	return obj.GetKind() == "MutatingWebhookConfiguration" || obj.GetKind() == "ValidatingWebhookConfiguration"
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}
