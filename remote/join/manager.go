package join

import (
	"context"
	"errors"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
)

// ManagerAccount names the account, roles and bindings by which a primary serves a
// remote. Each primary has its own.
func ManagerAccount(primary string) string { return api.ManagerAccountName + "-" + primary }

// ManagerRules is all that a manager may do over the whole remote: look, have
// tokens reviewed, and write what MCS, bundles and injection need. No Secrets.
func ManagerRules() []rbacv1.PolicyRule {
	look := []string{"get", "list", "watch"}
	write := []string{"create", "patch", "delete"}
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"services", "pods", "nodes", "namespaces"}, Verbs: look},
		{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: write},
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: append(look, write...)},
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices/restricted"}, Verbs: []string{"create"}},
		{APIGroups: []string{"multicluster.x-k8s.io"}, Resources: []string{"serviceexports"}, Verbs: look},
		{APIGroups: []string{"multicluster.x-k8s.io"}, Resources: []string{"serviceimports"}, Verbs: append(look, write...)},
		{APIGroups: []string{"multicluster.x-k8s.io"}, Resources: []string{"serviceexports/status", "serviceimports/status"}, Verbs: []string{"patch"}},
		{APIGroups: []string{"multicluster.x-k8s.io"}, Resources: []string{"serviceimports/finalizers"}, Verbs: []string{"update"}},
		{APIGroups: []string{"about.k8s.io"}, Resources: []string{"clusterproperties"}, Verbs: look},
		{APIGroups: []string{"security.istio.io"}, Resources: []string{"peerauthentications"}, Verbs: look},
		{APIGroups: []string{"isthmus.dev"}, Resources: []string{"clusterlinks"}, Verbs: look},
		{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}},
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"create"}},
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{api.BundleConfigMapName}, Verbs: append(look, "patch")},
		{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}},
		{APIGroups: []string{"admissionregistration.k8s.io"}, Resources: []string{"mutatingwebhookconfigurations"}, ResourceNames: []string{"isthmus"}, Verbs: []string{"get", "update"}},
	}
}

// ManagerSystemRules is what it may do in the system namespace besides: be elected,
// keep links, and remember what is not to be used again yet.
func ManagerSystemRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{api.EntryRetiredName}, Verbs: []string{"get", "update"}},
		{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"create"}},
		{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, ResourceNames: []string{api.ControlPlaneName}, Verbs: []string{"get", "update"}},
		{APIGroups: []string{"isthmus.dev"}, Resources: []string{"clusterlinks"}, Verbs: []string{"create", "patch", "delete"}},
		{APIGroups: []string{"isthmus.dev"}, Resources: []string{"clusterlinks/status"}, Verbs: []string{"patch"}},
	}
}

func managerOf(primary string) account {
	return account{name: ManagerAccount(primary), rules: ManagerRules(), inside: ManagerSystemRules()}
}

// Material is what a primary signs with for a remote, all PEM.
type Material struct{ Chain, Key, Bundle []byte }

// Serve lets primary serve remote: it makes the manager in the remote, and in the
// primary the remote secret, the link, and the Secret with the remote's
// intermediate, in this order, so that nothing is served halfway. It may be run
// again.
func Serve(ctx context.Context, primary, remote Side, material Material, opts Options) error {
	opts = opts.filled()
	if err := errors.Join(primary.check(), remote.check()); err != nil {
		return err
	}
	if primary.Cluster == remote.Cluster {
		return fmt.Errorf("cluster %q cannot be its own remote", primary.Cluster)
	}
	opts.Progress(fmt.Sprintf("account in %s for %s", remote.Cluster, primary.Cluster))
	client, err := remote.client()
	if err != nil {
		return err
	}
	kubeconfig, err := accountAccess(ctx, client, managerOf(primary.Cluster), primary, remote, opts)
	if err != nil {
		return err
	}
	opts.Progress(fmt.Sprintf("remote secret, link and intermediate in %s for %s", primary.Cluster, remote.Cluster))
	w, err := newWriter(primary)
	if err != nil {
		return err
	}
	if err := w.apply(ctx, secrets, remoteSecret(opts.Namespace, remote.Cluster, kubeconfig)); err != nil {
		return err
	}
	if err := w.apply(ctx, clusterLinks, clusterLink(opts.Namespace, remote.Cluster)); err != nil {
		return err
	}
	return w.apply(ctx, secrets, servesSecret(opts.Namespace, remote, material))
}

func servesSecret(namespace string, remote Side, material Material) *corev1.Secret {
	labels := maps.Clone(managed())
	labels[api.LabelServes] = remote.Cluster
	return &corev1.Secret{
		TypeMeta: kind("v1", "Secret"),
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: api.ServesSecretPrefix + remote.Cluster, Labels: labels,
			Annotations: map[string]string{api.AnnotationNetwork: remote.Network},
		},
		Data: map[string][]byte{api.CAChainKey: material.Chain, api.CAKeyKey: material.Key, api.CABundleKey: material.Bundle},
	}
}

// Unserve ends what Serve began. A side without Config is out of reach and left as
// it is; what is not there is no error.
func Unserve(ctx context.Context, primary, remote Side, opts Options) error {
	opts = opts.filled()
	var errs []error
	if primary.Config != nil {
		opts.Progress(fmt.Sprintf("intermediate, remote secret and link in %s for %s", primary.Cluster, remote.Cluster))
		w, err := newWriter(primary)
		if err != nil {
			return err
		}
		errs = append(errs, w.remove(ctx, secrets, opts.Namespace, api.ServesSecretPrefix+remote.Cluster), removeLink(ctx, primary, remote.Cluster, opts.Namespace))
	}
	if remote.Config != nil {
		opts.Progress(fmt.Sprintf("account in %s for %s", remote.Cluster, primary.Cluster))
		errs = append(errs, managerOf(primary.Cluster).remove(ctx, remote, opts.Namespace))
	}
	return errors.Join(errs...)
}
