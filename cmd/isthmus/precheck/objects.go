package precheck

import (
	"context"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// needed is what an installation writes: verb, group, resource. Helm keeps its releases in Secrets. Giving rights to
// others needs that one has them, so clusterroles must be escalated or all rights held.
var needed = [][3]string{
	{"create", "", "namespaces"}, {"create", "", "secrets"}, {"list", "", "secrets"}, {"update", "", "secrets"}, {"delete", "", "secrets"}, {"create", "", "configmaps"}, {"create", "", "services"}, {"create", "", "serviceaccounts"},
	{"create", "", "serviceaccounts/token"}, {"create", "apps", "deployments"}, {"list", "apps", "replicasets"}, {"create", "policy", "poddisruptionbudgets"}, {"create", "apiextensions.k8s.io", "customresourcedefinitions"},
	{"create", "rbac.authorization.k8s.io", "clusterroles"}, {"create", "rbac.authorization.k8s.io", "clusterrolebindings"},
	{"create", "admissionregistration.k8s.io", "mutatingwebhookconfigurations"}, {"create", "admissionregistration.k8s.io", "validatingadmissionpolicies"}, {"create", "networking.k8s.io", "networkpolicies"},
	{"create", "about.k8s.io", "clusterproperties"}, {"list", "", "pods"}, {"list", "", "nodes"},
}

func (f *facts) lookAtRights(ctx context.Context, c *cluster.Cluster) {
	missing, err := missingRights(ctx, c, api.SystemNamespace, needed)
	switch {
	case err != nil:
		f.add("rights", Bad, "ask the cluster's administrator", "cannot be asked: %v", err)
	case missing != "":
		f.add("rights", Bad, "use a context of an administrator", "may not %s", missing)
	default:
		f.add("rights", OK, "", "all that an installation needs")
	}
}

// missingRights names those of rights that the caller has not in namespace; "" where none is missing.
func missingRights(ctx context.Context, c *cluster.Cluster, namespace string, rights [][3]string) (string, error) {
	var missing []string
	for _, n := range rights {
		resource, sub, _ := strings.Cut(n[2], "/")
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: n[0], Group: n[1], Resource: resource, Subresource: sub, Namespace: namespace},
		}}
		got, err := c.Kube.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			return "", err
		}
		if !got.Status.Allowed {
			missing = append(missing, n[0]+" "+n[2])
		}
	}
	return strings.Join(missing, ", "), nil
}

func (f *facts) lookAtInstallation(ctx context.Context, c *cluster.Cluster) {
	f.name, f.network = c.Context, c.Context
	installed, err := clusterset.Find(ctx, c)
	switch {
	case err != nil:
		f.add("installation", Bad, "ask the cluster's administrator", "cannot be read: %v", err)
	case installed == nil:
		f.add("installation", OK, "", "none yet")
	default:
		f.name, f.network, f.installed = installed.Cluster, installed.Network, true
		f.add("installation", OK, "", "cluster %s of network %s; install brings it up to date", f.name, f.network)
	}
}

// lookAtDefinitions finds MCS definitions of somebody else that are too old, and a
// mesh that would fight over pods.
func (f *facts) lookAtDefinitions(ctx context.Context, c *cluster.Cluster) {
	crds := c.Dynamic.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	crd, err := crds.Get(ctx, "serviceexports.multicluster.x-k8s.io", metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		f.add("MCS API", OK, "", "not there yet; install brings it")
	case err != nil:
		f.add("MCS API", Warn, "see whether serviceexports.multicluster.x-k8s.io serves v1beta1", "cannot be read: %v", err)
	case !serves(crd, "v1beta1"):
		f.add("MCS API", Bad, "update it to mcs-api v0.5 or later, or delete it", "somebody else's definition does not serve v1beta1")
	default:
		f.add("MCS API", OK, "", "there")
	}
	hooks, err := c.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return
	}
	for _, h := range hooks.Items {
		if strings.Contains(h.Name, "istio-sidecar-injector") || strings.Contains(h.Name, "linkerd-proxy-injector") {
			f.add("other mesh", Warn, "label namespaces for one of them only", "the webhook %s injects sidecars, too", h.Name)
		}
	}
}

func serves(crd *unstructured.Unstructured, version string) bool {
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, v := range versions {
		if m, ok := v.(map[string]any); ok && m["name"] == version && m["served"] == true {
			return true
		}
	}
	return false
}

func (f *facts) lookAtNodes(ctx context.Context, c *cluster.Cluster) {
	nodes, err := c.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		f.add("nodes", Warn, "use a context that may list nodes", "cannot be read: %v", err)
		return
	}
	ready := 0
	for _, n := range nodes.Items {
		f.podCIDRs = append(f.podCIDRs, n.Spec.PodCIDRs...)
		for _, cond := range n.Status.Conditions {
			if cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	if ready == 0 {
		f.add("nodes", Bad, "kubectl --context "+c.Context+" get nodes", "none of %d is ready", len(nodes.Items))
		return
	}
	f.add("nodes", OK, "", "%d of %d ready", ready, len(nodes.Items))
}
