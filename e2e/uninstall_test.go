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

// A cluster from which the mesh has been uninstalled, while it was linked and had a second control plane, has no object that names it, no
// definition, no release, and the CoreDNS that it had before; the clusters that it was linked to have nothing of it. Twice is once,
// and it can be installed and linked again. Whichever of two goes first. (East stays: remotes may need it.)
func TestUninstallLeavesNothing(t *testing.T) {
	for _, gone := range mesh.All()[1:] {
		t.Run(gone.Name, func(t *testing.T) { leavesNothing(t, gone) })
	}
}

func leavesNothing(t *testing.T, gone *Cluster) {
	ns := "uninstall-" + gone.Name
	mesh.Cleanup(t, mesh.LinkArgs()...)
	mesh.Cleanup(t, mesh.InstallArgs(gone)...)
	gone.Namespace(t, ns, false)
	mesh.East.Namespace(t, ns, false)
	gone.Apply(t, ns, echoFile)
	gone.ApplyYAML(t, ns, exportOf("echo"))
	gone.Imported(t, ns, "echo")
	mesh.East.Imported(t, ns, "echo")
	if gone.IsPrimary() {
		mesh.CLI(t, append(mesh.InstallArgs(gone), "--revision", "canary")...)
	}
	config, err := gone.Kube.CoreV1().ConfigMaps("kube-system").Get(t.Context(), "coredns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	original := config.Annotations["isthmus.dev/original-corefile"]

	for range 2 {
		mesh.CLI(t, "uninstall", gone.Name, "--purge")
	}
	Eventually(t, 30*time.Second, gone.Name+" has nothing of the mesh", func(ctx context.Context) error {
		left, err := gone.leftovers(ctx)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("left: %s", strings.Join(left, ", "))
		}
		return err
	})
	config, err = gone.Kube.CoreV1().ConfigMaps("kube-system").Get(t.Context(), "coredns", metav1.GetOptions{})
	if err != nil || config.Data["Corefile"] != original || original == "" {
		t.Errorf("Corefile, %v:\n%s", err, config.Data["Corefile"])
	}
	for _, other := range mesh.All() {
		if other != gone {
			Eventually(t, time.Minute, other.Name+" has nothing of "+gone.Name, func(ctx context.Context) error { return other.forgot(ctx, gone.Name) })
		}
	}
}

// forgot is an error as long as an object of the mesh bears the name of another cluster.
func (c *Cluster) forgot(ctx context.Context, name string) error {
	left, err := c.leftovers(ctx)
	if err != nil {
		return err
	}
	others := strings.NewReplacer("uninstall-"+name, "", "eastwest", "", "east-west", "") // the test's own, and the gateway's
	left = slices.DeleteFunc(left, func(l string) bool { return !strings.Contains(others.Replace(l), name) })
	if len(left) > 0 {
		return fmt.Errorf("left: %s", strings.Join(left, ", "))
	}
	return nil
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
					out = append(out, fmt.Sprintf("%s %s/%s %v", r.Kind, found.Items[i].GetNamespace(), found.Items[i].GetName(), found.Items[i].GetLabels()))
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
