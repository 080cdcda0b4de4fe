package clusterset

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/remote/join"
)

// Well-known ClusterProperties of KEP-2149.
const (
	PropertyID         = "cluster.clusterset.k8s.io" // the cluster's name in the clusterset, while it is installed
	PropertyMembership = "clusterset.k8s.io"         // the clusterset's name, while the cluster is linked
)

var propertyKind = schema.GroupVersionKind{Group: "about.k8s.io", Version: "v1beta1", Kind: "ClusterProperty"}

func properties(c *cluster.Cluster) dynamic.ResourceInterface {
	return c.Dynamic.Resource(propertyKind.GroupVersion().WithResource("clusterproperties"))
}

// Property reads a ClusterProperty; "" where there is none.
func Property(ctx context.Context, c *cluster.Cluster, name string) (string, error) {
	found, err := properties(c).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read ClusterProperty %s of %s: %w", name, c.Context, err)
	}
	value, _, err := unstructured.NestedString(found.Object, "spec", "value")
	return value, err
}

// checkIdentities refuses clusters without a name in the clusterset, with one that is
// not theirs, or with that of another.
func checkIdentities(ctx context.Context, members []*member) error {
	seen := map[string]*member{}
	for _, m := range members {
		id, err := Property(ctx, m.cluster, PropertyID)
		if err != nil {
			return err
		}
		context := m.cluster.Context
		switch other := seen[id]; {
		case id == "":
			return refuse(context, "NoClusterID", "isthmus install "+context+" writes it", "it has no cluster id: no ClusterProperty %s", PropertyID)
		case id != m.side.Cluster:
			return refuse(context, "WrongClusterID", DeleteID(context), "its cluster id is %q, but it is installed as %q", id, m.side.Cluster)
		case other != nil:
			return refuse(context, "SameClusterID", fmt.Sprintf("isthmus uninstall %s, then isthmus install %s --cluster-name %s=OTHER", context, context, context),
				"it has the cluster id %q, as context %s has", id, other.cluster.Context)
		}
		seen[id] = m
	}
	return checkSets(members)
}

// checkSets refuses clusters of different clustersets.
func checkSets(members []*member) error {
	for _, m := range members {
		first := members[0]
		if m.set != first.set {
			return refuse(m.cluster.Context, "OtherClusterset", "isthmus install with one --clusterset for both", "it is of the clusterset %q, but %s is of %q", m.set, first.cluster.Context, first.set)
		}
	}
	return nil
}

// otherID says that somebody has given a cluster another id than it is to have.
func otherID(context, id, want string, installed bool) error {
	next := fmt.Sprintf("isthmus install %s --cluster-name %s=%s keeps it; or kubectl --context %s delete clusterproperty %s", context, context, id, context, PropertyID)
	if installed {
		next = DeleteID(context)
	}
	finding := join.Finding{Context: context, Reason: "WrongClusterID", Next: next, Message: fmt.Sprintf("it has the cluster id %q already and cannot become %q", id, want)}
	return CheckError{Finding: finding, What: "installed"}
}

// DeleteID is how a wrong cluster id is replaced by that of the installation.
func DeleteID(context string) string {
	return fmt.Sprintf("kubectl --context %s delete clusterproperty %s; isthmus install %s", context, PropertyID, context)
}

func refuse(context, reason, next, format string, args ...any) error {
	return CheckError{Finding: join.Finding{Context: context, Reason: reason, Next: next, Message: fmt.Sprintf(format, args...)}}
}

// enter writes that m is a member of its clusterset.
func enter(ctx context.Context, m *member) error {
	obj := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"value": m.set}}}
	obj.SetGroupVersionKind(propertyKind)
	obj.SetName(PropertyMembership)
	obj.SetLabels(map[string]string{api.LabelManagedBy: api.ManagedBy, "app.kubernetes.io/part-of": "isthmus"})
	return m.cluster.Apply(ctx, "", obj)
}

// leave removes that m is a member, when it has no link any more in either direction.
func leave(ctx context.Context, m *member) error {
	links, err := m.cluster.Dynamic.Resource(v1alpha1.GroupVersion.WithResource("clusterlinks")).Namespace(api.SystemNamespace).List(ctx, metav1.ListOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("list links of %s: %w", m.cluster.Context, err)
	}
	readers, err2 := m.cluster.Kube.CoreV1().ServiceAccounts(api.SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: api.LabelManagedBy + "=" + api.ManagedBy})
	if err2 != nil {
		return fmt.Errorf("list readers of %s: %w", m.cluster.Context, err2)
	}
	if links != nil && len(links.Items) > 0 || hasReader(readers.Items) {
		return nil
	}
	return removeMembership(ctx, m.cluster)
}

// removeMembership deletes the property where it is ours.
func removeMembership(ctx context.Context, c *cluster.Cluster) error {
	found, err := properties(c).Get(ctx, PropertyMembership, metav1.GetOptions{})
	if err == nil && found.GetLabels()[api.LabelManagedBy] == api.ManagedBy {
		err = properties(c).Delete(ctx, PropertyMembership, metav1.DeleteOptions{})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete ClusterProperty %s of %s: %w", PropertyMembership, c.Context, err)
	}
	return nil
}

func hasReader(accounts []corev1.ServiceAccount) bool {
	return slices.ContainsFunc(accounts, func(a corev1.ServiceAccount) bool { return strings.HasPrefix(a.Name, api.ReaderAccountName) })
}
