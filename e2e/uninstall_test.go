//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// A cluster from which the mesh has been uninstalled has no object that names it, no definition, and the CoreDNS
// that it had before; twice is once, and it can be installed and linked again.
func TestUninstallLeavesNothing(t *testing.T) {
	const ns = "uninstall"
	mesh.Cleanup(t, "link", "east", "west", "north")
	mesh.Cleanup(t, "install", "north")
	mesh.North.Namespace(t, ns, false)
	mesh.North.Apply(t, ns, echoFile)
	mesh.North.ApplyYAML(t, ns, exportOf("echo"))
	mesh.North.Imported(t, ns, "echo")
	config, err := mesh.North.Kube.CoreV1().ConfigMaps("kube-system").Get(t.Context(), "coredns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	original := config.Annotations["isthmus.dev/original-corefile"]

	mesh.CLI(t, "unlink", "north", "east", "west")
	mesh.Cleanup(t, "link", "east", "west")
	for range 2 {
		mesh.CLI(t, "uninstall", "north", "--purge")
	}
	Eventually(t, 30*time.Second, "north has nothing of the mesh", func(ctx context.Context) error {
		left, err := mesh.North.leftovers(ctx)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("left: %s", strings.Join(left, ", "))
		}
		return err
	})
	config, err = mesh.North.Kube.CoreV1().ConfigMaps("kube-system").Get(t.Context(), "coredns", metav1.GetOptions{})
	if err != nil || config.Data["Corefile"] != original || original == "" {
		t.Errorf("Corefile, %v:\n%s", err, config.Data["Corefile"])
	}
}

// leftovers lists every object of any kind that bears our names, labels or annotations, in the order of the API.
func (c *Cluster) leftovers(ctx context.Context) ([]string, error) {
	lists, err := discovery.ServerPreferredResources(c.Kube.Discovery())
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, r := range l.APIResources {
			if r.Kind == "Event" || !slices.Contains(r.Verbs, "list") {
				continue
			}
			found, err := c.Dynamic.Resource(gv.WithResource(r.Name)).List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", r.Name, err)
			}
			for i := range found.Items {
				if ours(&found.Items[i]) {
					out = append(out, fmt.Sprintf("%s %s/%s", r.Kind, found.Items[i].GetNamespace(), found.Items[i].GetName()))
				}
			}
		}
	}
	return out, nil
}

// ours reports whether an object's metadata names the mesh or the clusterset. The echo application's does not.
func ours(obj *unstructured.Unstructured) bool {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return true
	}
	text := accessor.GetName() + fmt.Sprint(accessor.GetLabels()) + fmt.Sprint(accessor.GetFinalizers())
	for k, v := range accessor.GetAnnotations() {
		if k != "kubectl.kubernetes.io/last-applied-configuration" {
			text += k + v
		}
	}
	return strings.Contains(text, "isthmus") || strings.Contains(text, "clusterset") || strings.Contains(text, "multicluster")
}
