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

// revisions are what further control planes have and that has to go when the first one's goes.
var revisions = []leftover{
	{"MutatingWebhookConfiguration", "admissionregistration.k8s.io/v1", api.LabelRevision},
	{"Deployment", "apps/v1", api.LabelRevision + "," + LabelPartOf + "=" + PartOf}, // users have Deployments, too
}

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
// back, then goes one phase after the other. What is absent already is no error.
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
	objs, err := Render(Values{Cluster: "any", Strict: true})
	if err != nil {
		return err
	}
	further, err := find(ctx, client, revisions)
	if err != nil {
		return err
	}
	objs = append(objs, further...)
	for p := webhooks; p < definitions || p == definitions && opts.Purge; p++ {
		gone := slices.DeleteFunc(slices.Clone(objs), func(obj *unstructured.Unstructured) bool { return phaseOf(obj) != p })
		if p == written {
			if gone, err = find(ctx, client, leftovers); err != nil {
				return err
			}
		}
		if err := remove(ctx, client, gone, progress); err != nil {
			return err
		}
	}
	return nil
}

// A phase is what goes at once, after what was before it is gone.
type phase int

const (
	webhooks    phase = iota // first, so that no pod waits for them
	workloads                // gateways let connections end, for half a minute
	others                   // what neither they nor users need any more
	written                  // by isthmusd, which is gone by now and cannot write it anew
	namespaces               // quickly, since no pod is left there
	definitions              // and with them what users wrote
)

func phaseOf(obj *unstructured.Unstructured) phase {
	switch obj.GetKind() {
	case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration":
		return webhooks
	case "Deployment":
		return workloads
	case "Namespace":
		return namespaces
	case "CustomResourceDefinition":
		return definitions
	}
	return others
}

// find lists what there is of kinds, in every namespace.
func find(ctx context.Context, client dynamic.Interface, kinds []leftover) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, l := range kinds {
		kind := &unstructured.Unstructured{}
		kind.SetAPIVersion(l.apiVersion)
		kind.SetKind(l.kind)
		list, err := resource(client, kind).List(ctx, metav1.ListOptions{LabelSelector: l.selector})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", l.kind, err)
		}
		for i := range list.Items {
			out = append(out, &list.Items[i])
		}
	}
	return out, nil
}

// remove deletes objs, at once, and waits until all are gone.
func remove(ctx context.Context, client dynamic.Interface, objs []*unstructured.Unstructured, progress Progress) error {
	for _, obj := range objs {
		progress.say("delete %s", title(obj))
		if err := deleteOurs(ctx, resource(client, obj), obj); err != nil {
			return fmt.Errorf("delete %s: %w", title(obj), err)
		}
	}
	for _, obj := range objs {
		err := wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			found, err := resource(client, obj).Get(ctx, obj.GetName(), metav1.GetOptions{})
			return apierrors.IsNotFound(err) || err == nil && isTheirs(found), nil
		})
		if err != nil {
			return fmt.Errorf("wait until %s is gone: %w", title(obj), err)
		}
	}
	return nil
}

// deleteOurs deletes obj, and what belongs to it before it.
func deleteOurs(ctx context.Context, r dynamic.ResourceInterface, obj *unstructured.Unstructured) error {
	if mayBeTheirs(obj) {
		found, err := r.Get(ctx, obj.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && isTheirs(found) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	foreground := metav1.DeletePropagationForeground
	err := r.Delete(ctx, obj.GetName(), metav1.DeleteOptions{PropagationPolicy: &foreground})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// isTheirs reports whether what was found is there by somebody else's hand, and stays.
func isTheirs(found *unstructured.Unstructured) bool { return mayBeTheirs(found) && !ours(found) }
