package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// errOldLink is returned where a cluster drops the fault from its link.
var errOldLink = errors.New("its ClusterLinks have no spec.fault: the mesh there is of an older release; isthmus install brings it up to date")

// LinkBreaks returns nil where the link of in to cluster may be given a fault. Nothing is changed.
func LinkBreaks(ctx context.Context, in *cluster.Cluster, to string) error {
	return setFault(ctx, in, to, &v1alpha1.LinkFault{APIServer: ModeDrop, Seconds: 1, Renewed: metav1.NowMicro()}, metav1.DryRunAll)
}

func (c Change) breakAPI(ctx context.Context, h Hands) error {
	in, err := h.Open(c.Context)
	if err != nil {
		return err
	}
	return setFault(ctx, in, c.Name, &v1alpha1.LinkFault{APIServer: c.Fault.Mode, Seconds: int32(faultLife / time.Second), Renewed: metav1.NowMicro()})
}

func (c Change) mendAPI(ctx context.Context, h Hands) error {
	in, err := h.Open(c.Context)
	if err != nil {
		return err
	}
	return setFault(ctx, in, c.Name, nil)
}

// setFault writes the fault of a link; nil takes it away, where it and the link are there.
func setFault(ctx context.Context, in *cluster.Cluster, to string, fault *v1alpha1.LinkFault, dryRun ...string) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"fault": fault}})
	if err != nil {
		return err
	}
	links := in.Dynamic.Resource(v1alpha1.GroupVersion.WithResource("clusterlinks")).Namespace(api.SystemNamespace)
	got, err := links.Patch(ctx, to, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: cluster.FieldOwner, DryRun: dryRun})
	if fault == nil && apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set the fault of link %s in %s: %w", to, in.Context, err)
	}
	if _, kept, _ := unstructured.NestedMap(got.Object, "spec", "fault"); fault != nil && !kept {
		return fmt.Errorf("set the fault of link %s in %s: %w", to, in.Context, errOldLink)
	}
	return nil
}
