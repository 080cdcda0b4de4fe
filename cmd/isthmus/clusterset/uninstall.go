package clusterset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/install"
)

// Removed is what became of one cluster.
type Removed struct {
	Context string `json:"context"`
	Before  bool   `json:"before"` // the mesh was installed
	Purged  bool   `json:"purged"`
	// Sidecars are the namespaces with pods that keep theirs until they are restarted.
	Sidecars []string `json:"sidecars,omitempty"`
	// Links are the clusters to which it was still linked; those read in vain from now on.
	Links []string `json:"links,omitempty"`
}

// Uninstall removes the mesh from all clusters at once, after the links between
// them have been ended. What is not there is no error.
func Uninstall(ctx context.Context, clusters []*cluster.Cluster, opts install.UninstallOptions, progress func(cluster, step string)) ([]Removed, error) {
	out, err := unlinkAll(ctx, clusters)
	if err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, c := range clusters {
		out[i].Purged = opts.Purge
		group.Go(func() (err error) {
			say := func(step string) { progress(c.Context, step) }
			if err := install.Uninstall(ctx, c.Config, opts, say); err != nil {
				return fmt.Errorf("uninstall from %s: %w", c.Context, err)
			}
			if out[i].Sidecars, err = sidecars(ctx, c); err != nil {
				return err
			}
			return removeReaders(ctx, c)
		})
	}
	return out, group.Wait()
}

// unlinkAll ends the links between those of clusters that have the mesh, and says
// which have, and what other links they have.
func unlinkAll(ctx context.Context, clusters []*cluster.Cluster) ([]Removed, error) {
	var installed []*cluster.Cluster
	out := make([]Removed, len(clusters))
	for i, c := range clusters {
		found, err := Find(ctx, c)
		if err != nil {
			return nil, err
		}
		out[i] = Removed{Context: c.Context, Before: found != nil}
		if found != nil {
			installed = append(installed, c)
		}
	}
	if _, err := Unlink(ctx, LinkOptions{Clusters: installed}); err != nil {
		return nil, err
	}
	for i, c := range clusters {
		if !out[i].Before {
			continue
		}
		links, err := c.Dynamic.Resource(v1alpha1.GroupVersion.WithResource("clusterlinks")).Namespace(api.SystemNamespace).List(ctx, metav1.ListOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list links of %s: %w", c.Context, err)
		}
		for _, l := range links.Items {
			out[i].Links = append(out[i].Links, l.GetName())
		}
	}
	return out, nil
}

// sidecars returns the namespaces that have pods with a sidecar, sorted.
func sidecars(ctx context.Context, c *cluster.Cluster) ([]string, error) {
	pods, err := c.Kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list pods of %s: %w", c.Context, err)
	}
	namespaces := map[string]bool{}
	for _, p := range pods.Items {
		if p.Annotations[api.AnnotationInjected] != "" && p.DeletionTimestamp == nil {
			namespaces[p.Namespace] = true
		}
	}
	return slices.Sorted(maps.Keys(namespaces)), nil
}

// removeReaders ends the accounts by which other clusters have read c; what they had
// in the system namespace is gone with it.
func removeReaders(ctx context.Context, c *cluster.Cluster) error {
	mine := metav1.ListOptions{LabelSelector: api.LabelManagedBy + "=" + api.ManagedBy}
	rbac := c.Kube.RbacV1()
	err := errors.Join(
		rbac.ClusterRoleBindings().DeleteCollection(ctx, metav1.DeleteOptions{}, mine),
		rbac.ClusterRoles().DeleteCollection(ctx, metav1.DeleteOptions{}, mine),
	)
	if err != nil {
		return fmt.Errorf("remove the accounts of readers in %s: %w", c.Context, err)
	}
	return nil
}
