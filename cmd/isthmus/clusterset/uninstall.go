package clusterset

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/install"
)

// Uninstall removes the mesh from all clusters at once, after the links between
// them have been ended. What is not there is no error.
func Uninstall(ctx context.Context, clusters []*cluster.Cluster, opts install.UninstallOptions, progress func(cluster, step string)) error {
	if err := unlinkAll(ctx, clusters); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range clusters {
		group.Go(func() error {
			say := func(step string) { progress(c.Context, step) }
			if err := install.Uninstall(ctx, c.Config, opts, say); err != nil {
				return fmt.Errorf("uninstall from %s: %w", c.Context, err)
			}
			return removeReaders(ctx, c)
		})
	}
	return group.Wait()
}

// unlinkAll ends the links between those of clusters that have the mesh.
func unlinkAll(ctx context.Context, clusters []*cluster.Cluster) error {
	var installed []*cluster.Cluster
	for _, c := range clusters {
		found, err := Find(ctx, c)
		if err != nil {
			return err
		}
		if found != nil {
			installed = append(installed, c)
		}
	}
	_, err := Unlink(ctx, LinkOptions{Clusters: installed})
	return err
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
