package clusterset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
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
	// Ended are the contexts of other clusters in which its links, or its being served, were ended.
	Ended []string `json:"ended,omitempty"`
	// Links are the clusters to which it was still linked, and which were not among those given or found; those
	// read in vain from now on.
	Links []string `json:"links,omitempty"`
}

// Uninstall removes the mesh from all clusters at once, after the links between them have been ended, and those to
// others, where one of neighbours is the other and can be reached. What is not there is no error.
func Uninstall(ctx context.Context, clusters, neighbours []*cluster.Cluster, opts install.UninstallOptions, progress func(cluster, step string)) ([]Removed, error) {
	out, err := unlinkAll(ctx, clusters, neighbours)
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

// unlinkAll ends the links between those of clusters that have the mesh, and to the neighbours, and says
// which have, and what other links they have.
func unlinkAll(ctx context.Context, clusters, neighbours []*cluster.Cluster) ([]Removed, error) {
	var installed []*cluster.Cluster
	out := make([]Removed, len(clusters))
	found := make([]*Installed, len(clusters))
	for i, c := range clusters {
		var err error
		if found[i], err = Find(ctx, c); err != nil {
			return nil, err
		}
		out[i] = Removed{Context: c.Context, Before: found[i] != nil}
		if found[i] != nil {
			installed = append(installed, c)
		}
	}
	if _, err := Unlink(ctx, LinkOptions{Clusters: installed}); err != nil {
		return nil, err
	}
	near := findNeighbours(ctx, neighbours)
	for i, c := range clusters {
		if found[i] == nil {
			continue
		}
		peers, err := peersOf(ctx, c, found[i])
		if err != nil {
			return nil, err
		}
		for _, peer := range peers {
			context, err := endAt(ctx, c, found[i], near[peer])
			switch {
			case err != nil:
				return nil, err
			case context != "":
				out[i].Ended = append(out[i].Ended, context)
			case !slices.ContainsFunc(found, func(f *Installed) bool { return f != nil && f.Cluster == peer }):
				out[i].Links = append(out[i].Links, peer)
			}
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
