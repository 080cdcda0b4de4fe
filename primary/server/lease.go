package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/controllers"
)

// leaseOwner owns the leases that were written because a link had none.
const leaseOwner = "isthmusd-lease"

// leaseInterval is how often links are looked at.
const leaseInterval = 5 * time.Second

// MinLease is the shortest lease: less, and a cluster would leave at a hiccup.
const MinLease = time.Second

// leases gives links that say no lease the one of this cluster's installation.
// It is written on the link, so that everybody sees what counts; one that a user
// has written stays.
type leases struct {
	local     *controllers.Local
	namespace string
	lease     time.Duration // 0 writes nothing
	log       *slog.Logger

	done map[types.UID]int64 // generation of each link that has been looked at; Run's alone
}

// Update is no concern of this controller.
func (*leases) Update(*federation.Snapshot) {}

// Run works until ctx ends; only the elected replica runs it.
func (l *leases) Run(ctx context.Context) error {
	tick := time.NewTicker(leaseInterval)
	defer tick.Stop()
	for {
		if err := l.look(ctx); err != nil && ctx.Err() == nil {
			l.log.Warn("write the leases of links", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (l *leases) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseInterval)
	defer cancel()
	var list v1alpha1.ClusterLinkList
	if err := l.local.List(ctx, &list, client.InNamespace(l.namespace)); err != nil {
		return err
	}
	done := map[types.UID]int64{}
	defer func() { l.done = done }()
	for i := range list.Items {
		link := &list.Items[i]
		if l.done[link.UID] != link.Generation {
			if err := l.write(ctx, link); err != nil {
				return fmt.Errorf("link %s: %w", link.Name, err)
			}
		}
		done[link.UID] = link.Generation
	}
	return nil
}

// write applies the lease where it is wanted and not there. What another has
// written is a conflict, and stays; a link that is gone is not made anew, because
// the patch names its UID.
func (l *leases) write(ctx context.Context, link *v1alpha1.ClusterLink) error {
	spec := map[string]any{}
	if l.lease > 0 {
		spec["lease"] = l.lease.String()
	}
	if has := link.Spec.Lease; link.DeletionTimestamp != nil || has == nil && l.lease == 0 || has != nil && has.Duration == l.lease {
		return nil
	}
	data, err := json.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "ClusterLink",
		"metadata": map[string]any{"name": link.Name, "namespace": link.Namespace, "uid": link.UID}, "spec": spec,
	})
	if err != nil {
		return err
	}
	out := &v1alpha1.ClusterLink{ObjectMeta: metav1.ObjectMeta{Name: link.Name, Namespace: link.Namespace}}
	err = l.local.Patch(ctx, out, client.RawPatch(types.ApplyPatchType, data), client.FieldOwner(leaseOwner))
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
