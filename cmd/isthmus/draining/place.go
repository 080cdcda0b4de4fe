package draining

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/federation"
)

// fieldOwner owns the annotation and nothing else, so that an installation that is
// applied anew leaves it alone.
const fieldOwner = "isthmus-drain"

// place is an object whose annotation says that a cluster is drained: its own
// system namespace, or a peer's link to it.
type place struct {
	cluster *cluster.Cluster
	object  *unstructured.Unstructured
	what    string
}

func ownPlace(c *cluster.Cluster) place {
	o := &unstructured.Unstructured{Object: map[string]any{}}
	o.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	o.SetName(api.SystemNamespace)
	return place{c, o, "namespace " + api.SystemNamespace + " of " + c.Context}
}

func linkPlace(c *cluster.Cluster, to string) place {
	o := &unstructured.Unstructured{Object: map[string]any{}}
	o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("ClusterLink"))
	o.SetNamespace(api.SystemNamespace)
	o.SetName(to)
	return place{c, o, "link to " + to + " in " + c.Context}
}

// places are all where a drain of t may be written: its own namespace first, where
// it answers.
func (t *Target) places() []place {
	var out []place
	if t.There != nil {
		out = append(out, ownPlace(t.There))
	}
	for _, name := range t.PeerNames() {
		out = append(out, linkPlace(t.Peers[name], t.Name))
	}
	return out
}

// read returns what the place says; a wrong text is an error that wraps
// federation.ErrDrain.
func (p place) read(ctx context.Context) (*federation.Drain, error) {
	o, err := p.cluster.Resource(p.object).Get(ctx, p.object.GetName(), metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", p.what, err)
	}
	d, err := federation.ParseDrain(o.GetAnnotations()[api.AnnotationDrain])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.what, err)
	}
	return d, nil
}

// write makes the place say d; nil takes the annotation away, whoever wrote it.
func (p place) write(ctx context.Context, d *federation.Drain) error {
	kind, body, options := types.ApplyPatchType, p.object.DeepCopy(), metav1.PatchOptions{FieldManager: fieldOwner, Force: new(true)}
	if d != nil {
		body.SetAnnotations(map[string]string{api.AnnotationDrain: d.String()})
	} else {
		kind, options.Force = types.MergePatchType, nil
		body = &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"annotations": map[string]any{api.AnnotationDrain: nil}}}}
	}
	data, err := json.Marshal(body.Object)
	if err != nil {
		return err
	}
	if _, err := p.cluster.Resource(p.object).Patch(ctx, p.object.GetName(), kind, data, options); err != nil {
		return fmt.Errorf("write annotation %s on %s: %w", api.AnnotationDrain, p.what, err)
	}
	return nil
}

// now returns the places that say something, and the lowest of it; a text that
// cannot be read counts as a place, since it has to go.
func (t *Target) now(ctx context.Context) (drain *federation.Drain, said []place, err error) {
	for _, p := range t.places() {
		d, err := p.read(ctx)
		switch {
		case apierrors.IsNotFound(err): // a peer that does not read it
		case errors.Is(err, federation.ErrDrain):
			said = append(said, p)
		case err != nil:
			return nil, nil, err
		case d != nil:
			drain, said = drain.Lower(d), append(said, p)
		}
	}
	return drain, said, nil
}
