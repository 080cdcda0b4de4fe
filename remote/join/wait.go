package join

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
)

// Wait waits until the control plane of from says that it reads cluster to and
// that its gateway answers, or until ctx ends: then the error says how far it came.
func Wait(ctx context.Context, from Side, to string, opts Options) (*v1alpha1.ClusterLink, error) {
	opts = opts.filled()
	w, err := newWriter(from)
	if err != nil {
		return nil, err
	}
	seen := "its control plane has said nothing yet"
	for {
		link, err := w.link(ctx, opts.Namespace, to)
		switch {
		case err != nil:
			seen = err.Error()
		case link.Status.State == v1alpha1.LinkConnected:
			return link, nil
		case link.Status.State != "":
			seen = fmt.Sprintf("state %s: %s", link.Status.State, link.Status.Message)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("link from %s to %s is not up: %s", from.Cluster, to, seen)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (w *writer) link(ctx context.Context, namespace, cluster string) (*v1alpha1.ClusterLink, error) {
	var u *unstructured.Unstructured
	u, err := w.client.Resource(clusterLinks).Namespace(namespace).Get(ctx, cluster, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	var link v1alpha1.ClusterLink
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &link); err != nil {
		return nil, err
	}
	return &link, nil
}
