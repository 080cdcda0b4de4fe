package clusterset

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/remote/join"
)

// served reports whether a direction is there without a link of its own: a remote
// reads what its primary reads, and the primary itself; a primary reads the
// remotes that it serves by another account. Where the primary would have to be
// linked first, the error says so.
func (d direction) served(ctx context.Context, members []*member, directions []direction) (bool, error) {
	if d.from.primary == "" {
		return d.serves(ctx)
	}
	if d.to.side.Cluster == d.from.primary {
		return true, nil
	}
	for _, other := range directions { // the primary is linked in this run
		if other.from.side.Cluster == d.from.primary && other.to == d.to {
			return true, nil
		}
	}
	for _, m := range members {
		if m.side.Cluster == d.from.primary {
			linked, err := join.Linked(ctx, m.side, d.to.side.Cluster, join.Options{})
			if linked || err != nil {
				return linked, err
			}
		}
	}
	return false, refuse(d.from.side.Context, "PrimaryNotLinked", fmt.Sprintf("name the context of cluster %s, too", d.from.primary),
		"it is a remote that cluster %s serves, which does not read %s", d.from.primary, d.to.side.Cluster)
}

// serves reports whether from's control plane serves to.
func (d direction) serves(ctx context.Context) (bool, error) {
	_, err := d.from.cluster.Kube.CoreV1().Secrets(api.SystemNamespace).Get(ctx, api.ServesSecretPrefix+d.to.side.Cluster, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read who is served by %s: %w", d.from.side.Cluster, err)
	}
	return true, nil
}
