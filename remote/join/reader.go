package join

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
)

// ReaderAccount names the account, role and bindings by which cluster reader
// reads. Each reader has its own, so that unlinking one ends its token alone.
func ReaderAccount(reader string) string { return api.ReaderAccountName + "-" + reader }

// ReaderRules is all that a reader may do. No Secrets, nothing written.
func ReaderRules() []rbacv1.PolicyRule {
	look := []string{"list", "watch"}
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"services", "pods", "nodes", "namespaces"}, Verbs: look},
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: look},
		{APIGroups: []string{"multicluster.x-k8s.io"}, Resources: []string{"serviceexports"}, Verbs: look},
		{APIGroups: []string{"about.k8s.io"}, Resources: []string{"clusterproperties"}, Verbs: look},
	}
}

// renewRules lets an account ask for a token of its own name, and no other.
func renewRules(name string) []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"serviceaccounts/token"}, ResourceNames: []string{name}, Verbs: []string{"create"}}}
}

// An account is what another cluster's control plane does its work with here.
type account struct {
	name   string
	rules  []rbacv1.PolicyRule // over the whole cluster
	inside []rbacv1.PolicyRule // in the system namespace, beside a token of its own name
}

func readerOf(reader string) account {
	return account{name: ReaderAccount(reader), rules: ReaderRules()}
}

// make writes the account in side.
func (a account) make(ctx context.Context, side Side, namespace string) error {
	w, err := newWriter(side)
	if err != nil {
		return err
	}
	meta := metav1.ObjectMeta{Name: a.name, Labels: managed()}
	inside := *meta.DeepCopy()
	inside.Namespace = namespace
	subjects := []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: a.name}}
	return errors.Join(
		w.apply(ctx, accounts, &corev1.ServiceAccount{TypeMeta: kind("v1", "ServiceAccount"), ObjectMeta: inside}),
		w.apply(ctx, clusterRoles, &rbacv1.ClusterRole{TypeMeta: kind(rbac, "ClusterRole"), ObjectMeta: meta, Rules: a.rules}),
		w.apply(ctx, clusterRoleBindings, &rbacv1.ClusterRoleBinding{
			TypeMeta: kind(rbac, "ClusterRoleBinding"), ObjectMeta: meta, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: a.name},
		}),
		w.apply(ctx, roles, &rbacv1.Role{TypeMeta: kind(rbac, "Role"), ObjectMeta: inside, Rules: append(renewRules(a.name), a.inside...)}),
		w.apply(ctx, roleBindings, &rbacv1.RoleBinding{
			TypeMeta: kind(rbac, "RoleBinding"), ObjectMeta: inside, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: a.name},
		}),
	)
}

// remove ends the account, and with it its token. What is not there is no error.
func (a account) remove(ctx context.Context, side Side, namespace string) error {
	w, err := newWriter(side)
	if err != nil {
		return err
	}
	return errors.Join(
		w.remove(ctx, clusterRoleBindings, "", a.name),
		w.remove(ctx, clusterRoles, "", a.name),
		w.remove(ctx, roleBindings, namespace, a.name),
		w.remove(ctx, roles, namespace, a.name),
		w.remove(ctx, accounts, namespace, a.name),
	)
}

const rbac = "rbac.authorization.k8s.io/v1"

func kind(version, name string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: version, Kind: name}
}
