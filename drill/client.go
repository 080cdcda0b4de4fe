package drill

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// ClientName is the deployment that StartClient makes.
const ClientName = "isthmus-drill-client"

// clientPatience bounds the start of the client, its image pull included.
const clientPatience = 2 * time.Minute

// StartClient runs a pod that can send load, in namespace, with a sidecar if the
// namespace has them, and returns its name; stop removes it.
func StartClient(ctx context.Context, c *cluster.Cluster, namespace, image string) (pod string, stop func(context.Context) error, err error) {
	ctx, cancel := context.WithTimeout(ctx, clientPatience)
	defer cancel()
	obj := clientDeployment(image)
	if err := c.Apply(ctx, namespace, obj); err != nil {
		return "", nil, err
	}
	stop = func(ctx context.Context) error { return c.Delete(ctx, namespace, obj) }
	if err := c.WaitDeployments(ctx, namespace, ClientName); err != nil {
		return "", stop, err
	}
	pods, err := c.Pods(ctx, namespace, "app="+ClientName)
	if err == nil && len(pods) == 0 {
		err = fmt.Errorf("the client in %s/%s is gone again", c.Context, namespace)
	}
	if err != nil {
		return "", stop, err
	}
	return pods[0].Name, stop, nil
}

func clientDeployment(image string) *unstructured.Unstructured {
	labels := map[string]any{"app": ClientName}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"name": ClientName, "labels": labels},
		"spec": map[string]any{
			"replicas": int64(1),
			"selector": map[string]any{"matchLabels": labels},
			"template": map[string]any{
				"metadata": map[string]any{"labels": labels},
				"spec": map[string]any{
					"terminationGracePeriodSeconds": int64(2),
					"containers":                    []any{map[string]any{"name": "client", "image": image, "args": []any{"idle"}}},
				},
			},
		},
	}}
}
