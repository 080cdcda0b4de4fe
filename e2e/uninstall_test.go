//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// A cluster from which the mesh has been uninstalled, while it was linked and (a primary) had a second control plane,
// has no object that names it, no definition, no release, and the CoreDNS that it had before; the clusters that it was
// linked to have nothing of it. Twice is once, and it can be installed and linked again. Whichever of two goes first.
func TestUninstallLeavesNothing(t *testing.T) {
	all := mesh.All()
	gone := []*Cluster{all[len(all)-1], mesh.West}
	for _, c := range slices.Compact(gone) {
		t.Run(c.Name, func(t *testing.T) { leavesNothing(t, c) })
	}
}

func leavesNothing(t *testing.T, gone *Cluster) {
	ns := "uninstall-" + gone.Name
	mesh.Cleanup(t, mesh.LinkArgs()...)
	mesh.Cleanup(t, mesh.InstallArgs(gone)...)
	gone.Namespace(t, ns, false)
	gone.Apply(t, ns, echoFile)
	gone.ApplyYAML(t, ns, exportOf("echo"))
	gone.Imported(t, ns, "echo")
	if gone.IsPrimary() {
		mesh.CLI(t, "install", gone.Name, "--revision", "canary")
	}
	config, err := gone.Kube.CoreV1().ConfigMaps("kube-system").Get(t.Context(), "coredns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	original := config.Annotations["isthmus.dev/original-corefile"]

	for range 2 {
		mesh.CLI(t, "uninstall", gone.Name, "--purge")
	}
	gone.Lacks(t, "", 30*time.Second)
	for _, c := range mesh.All() {
		if c != gone {
			c.Lacks(t, gone.Name, time.Minute)
		}
	}
	config, err = gone.Kube.CoreV1().ConfigMaps("kube-system").Get(t.Context(), "coredns", metav1.GetOptions{})
	if err != nil || config.Data["Corefile"] != original || original == "" {
		t.Errorf("Corefile, %v:\n%s", err, config.Data["Corefile"])
	}
}

// Lacks waits until the cluster has no object of the mesh whose metadata holds a word; the empty word: none at all.
func (c *Cluster) Lacks(t *testing.T, word string, within time.Duration) {
	t.Helper()
	Eventually(t, within, strings.TrimSpace(c.Name+" has nothing of the mesh "+word), func(ctx context.Context) error {
		left, err := c.leftovers(ctx, word)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("left: %s", strings.Join(left, ", "))
		}
		return err
	})
}

// leftovers lists every object of any kind that bears our names, labels or annotations, and the word, in the order of the API.
func (c *Cluster) leftovers(ctx context.Context, word string) ([]string, error) {
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
				if ours(&found.Items[i], word) {
					out = append(out, fmt.Sprintf("%s %s/%s %v", r.Kind, found.Items[i].GetNamespace(), found.Items[i].GetName(), found.Items[i].GetLabels()))
				}
			}
		}
	}
	return out, nil
}

// ours reports whether an object's metadata names the mesh or the clusterset, and the word. The echo application's does not.
func ours(obj *unstructured.Unstructured, word string) bool {
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
	text = strings.ReplaceAll(text, "east-west", "") // is what a gateway is
	if word != "" && !slices.Contains(strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) }), word) {
		return false
	}
	return strings.Contains(text, "isthmus") || strings.Contains(text, "clusterset") || strings.Contains(text, "multicluster")
}
