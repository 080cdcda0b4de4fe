//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// One export that cannot be served among twenty carries the reason; the others are served.
func TestOneInvalidObjectAmongMany(t *testing.T) {
	mesh.Needs(t, Time)
	t.Parallel()
	const ns = "invalid"
	caller := exportedEcho(t, ns, mesh.West)
	mesh.West.ApplyYAML(t, ns, "apiVersion: v1\nkind: Service\nmetadata: {name: outside}\nspec: {type: ExternalName, externalName: example.test}\n")
	mesh.West.ApplyYAML(t, ns, exportOf("outside"))
	mesh.West.ApplyYAML(t, ns, exportOf("absent"))
	for i := range 20 {
		name := fmt.Sprintf("echo-%d", i)
		mesh.West.ApplyYAML(t, ns, "apiVersion: v1\nkind: Service\nmetadata: {name: "+name+"}\nspec: {selector: {app: echo}, ports: [{name: http, port: 80, targetPort: 8080}]}\n")
		mesh.West.ApplyYAML(t, ns, exportOf(name))
	}
	for i := range 20 {
		caller.Reaches(t, fmt.Sprintf("http://echo-%d.%s.svc.clusterset.local", i, ns), time.Minute, "west")
	}
	mesh.West.condition(t, ns, "outside", "Valid", "False", "InvalidServiceType")
	mesh.West.condition(t, ns, "absent", "Valid", "False", "NoService")
	mesh.West.condition(t, ns, "echo-7", "Valid", "True", "Valid")
}

// condition waits until an export has that condition.
func (c *Cluster) condition(t *testing.T, namespace, export, kind, status, reason string) {
	t.Helper()
	Eventually(t, 20*time.Second, fmt.Sprintf("%s: %s is %s=%s for %s", c.Name, export, kind, status, reason), func(ctx context.Context) error {
		obj, err := c.Dynamic.Resource(exportKind).Namespace(namespace).Get(ctx, export, metav1.GetOptions{})
		if err != nil {
			return err
		}
		conditions, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
		for _, raw := range conditions {
			if m, ok := raw.(map[string]any); ok && m["type"] == kind {
				if m["status"] == status && m["reason"] == reason {
					return nil
				}
				return fmt.Errorf("it is %v for %v: %v", m["status"], m["reason"], m["message"])
			}
		}
		return fmt.Errorf("no such condition among %d", len(conditions))
	})
}
