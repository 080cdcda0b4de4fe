//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

var errImported = errors.New("the import is there")

// imported reports what is missing of an import: the object or its address.
func (c *Cluster) imported(ctx context.Context, namespace, name string) error {
	obj, err := c.Dynamic.Resource(importKind).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if ips, _, _ := unstructured.NestedStringSlice(obj.Object, "spec", "ips"); len(ips) == 0 {
		return fmt.Errorf("the import has no address")
	}
	return nil
}

// NotImported waits until the cluster has no such import.
func (c *Cluster) NotImported(t *testing.T, namespace, name string) {
	t.Helper()
	Eventually(t, 30*time.Second, c.Name+" does not import "+namespace+"/"+name, func(ctx context.Context) error {
		switch err := c.imported(ctx, namespace, name); {
		case apierrors.IsNotFound(err):
			return nil
		case err == nil:
			return errImported
		default:
			return err
		}
	})
}

// An export makes the import and the name in both clusters, taking it back takes both
// away, and the same again works.
func TestExportAndUnexport(t *testing.T) {
	t.Parallel()
	const ns, url = "export-unexport", "http://echo.export-unexport.svc.clusterset.local"
	for _, c := range mesh.Clusters() {
		c.Namespace(t, ns, true)
	}
	mesh.West.Apply(t, ns, echoFile)
	mesh.West.Ready(t, ns, "app=echo", 1)
	caller := NewCaller(t, mesh.East, ns)
	caller.Fails(t, url, 20*time.Second)
	for range 2 {
		mesh.CLI(t, "export", ns+"/echo", "--context", "west", "--wait")
		for _, c := range mesh.Clusters() {
			c.Imported(t, ns, "echo")
		}
		caller.Reaches(t, url, 30*time.Second, "west")
		mesh.CLI(t, "unexport", ns+"/echo", "--context", "west")
		for _, c := range mesh.Clusters() {
			c.NotImported(t, ns, "echo")
		}
		caller.Fails(t, url, 30*time.Second)
	}
}
