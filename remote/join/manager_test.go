package join

import (
	"slices"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install"
)

// Serve twice makes a manager that may do what a control plane does and nothing
// else, and the Secret that the primary signs with; Unserve twice leaves nothing.
func TestServeAndUnserve(t *testing.T) {
	east, west := sides(t)
	west.Network = "lan"
	for range 2 {
		must(t, Serve(t.Context(), east, west, Material{[]byte("chain"), []byte("key"), []byte("bundle")}, loopbackOnly()))
	}
	manager, _ := readerClient(t, "west")
	for what, test := range map[string]struct {
		may        bool
		attributes authorizationv1.ResourceAttributes
	}{
		"review tokens":            {true, authorizationv1.ResourceAttributes{Verb: "create", Group: "authentication.k8s.io", Resource: "tokenreviews"}},
		"write imports":            {true, authorizationv1.ResourceAttributes{Verb: "patch", Group: "multicluster.x-k8s.io", Resource: "serviceimports", Namespace: "shop"}},
		"be elected":               {true, authorizationv1.ResourceAttributes{Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: api.SystemNamespace, Name: api.ControlPlaneName}},
		"renew its token":          {true, authorizationv1.ResourceAttributes{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: api.SystemNamespace, Name: ManagerAccount("east")}},
		"tell the webhook's CA":    {true, authorizationv1.ResourceAttributes{Verb: "update", Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations", Name: "isthmus"}},
		"change another webhook":   {false, authorizationv1.ResourceAttributes{Verb: "update", Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations", Name: "other"}},
		"read secrets":             {false, authorizationv1.ResourceAttributes{Verb: "list", Resource: "secrets"}},
		"read our secrets":         {false, authorizationv1.ResourceAttributes{Verb: "get", Resource: "secrets", Namespace: api.SystemNamespace}},
		"another's token":          {false, authorizationv1.ResourceAttributes{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: api.SystemNamespace, Name: api.EastWestName}},
		"make pods":                {false, authorizationv1.ResourceAttributes{Verb: "create", Resource: "pods", Namespace: "shop"}},
		"exec":                     {false, authorizationv1.ResourceAttributes{Verb: "create", Resource: "pods", Subresource: "exec", Namespace: "shop"}},
		"change a user's config":   {false, authorizationv1.ResourceAttributes{Verb: "patch", Resource: "configmaps", Namespace: "shop", Name: "settings"}},
		"give itself more":         {false, authorizationv1.ResourceAttributes{Verb: "patch", Group: rbacv1.GroupName, Resource: "clusterroles"}},
		"take another's lease":     {false, authorizationv1.ResourceAttributes{Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-system", Name: "kube-scheduler"}},
		"export for somebody else": {false, authorizationv1.ResourceAttributes{Verb: "create", Group: "multicluster.x-k8s.io", Resource: "serviceexports", Namespace: "shop"}},
	} {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &test.attributes}}
		answer, err := manager.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
		must(t, err)
		if answer.Status.Allowed != test.may {
			t.Errorf("may %s: %v", what, answer.Status.Allowed)
		}
	}
	client := env.Client(t)
	secret, err := client.CoreV1().Secrets(api.SystemNamespace).Get(t.Context(), api.ServesSecretPrefix+"west", metav1.GetOptions{})
	must(t, err)
	if secret.Labels[api.LabelServes] != "west" || secret.Annotations[api.AnnotationNetwork] != "lan" || string(secret.Data[api.CAKeyKey]) != "key" {
		t.Errorf("got labels %v, annotations %v", secret.Labels, secret.Annotations)
	}
	for range 2 {
		must(t, Unserve(t.Context(), east, west, loopbackOnly()))
	}
	for _, name := range []string{api.ServesSecretPrefix + "west", api.RemoteSecretPrefix + "west"} {
		if _, err := client.CoreV1().Secrets(api.SystemNamespace).Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("secret %s: %v", name, err)
		}
	}
	if _, err := client.RbacV1().ClusterRoles().Get(t.Context(), ManagerAccount("east"), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("cluster role: %v", err)
	}
}

// A manager may nothing that isthmusd may not in its own cluster.
func TestManagerIsNoMoreThanIsthmusd(t *testing.T) {
	objs, err := install.Render(install.Values{Cluster: "east"})
	must(t, err)
	have := map[string][]rbacv1.PolicyRule{} // by kind
	for _, o := range objs {
		if o.GetName() != api.ControlPlaneName || o.GetKind() != "ClusterRole" && o.GetKind() != "Role" {
			continue
		}
		var role rbacv1.ClusterRole
		must(t, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role))
		have[o.GetKind()] = role.Rules
	}
	for kind, rules := range map[string][]rbacv1.PolicyRule{"ClusterRole": ManagerRules(), "Role": ManagerSystemRules()} {
		for _, r := range rules {
			for _, resource := range r.Resources {
				for _, verb := range r.Verbs {
					if !slices.ContainsFunc(have[kind], func(h rbacv1.PolicyRule) bool { return covers(h, r, resource, verb) }) {
						t.Errorf("%s: %s %v/%s %v, which isthmusd may not", kind, verb, r.APIGroups, resource, r.ResourceNames)
					}
				}
			}
		}
	}
}

func covers(have, want rbacv1.PolicyRule, resource, verb string) bool {
	return slices.Equal(have.APIGroups, want.APIGroups) && slices.Contains(have.Resources, resource) && slices.Contains(have.Verbs, verb) &&
		(len(have.ResourceNames) == 0 || slices.Equal(have.ResourceNames, want.ResourceNames))
}
