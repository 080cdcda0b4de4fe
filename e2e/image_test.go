//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// An image that no node can get is refused before anything is changed, in any cluster that was named: what runs goes on under
// traffic, the release has no new revision, and the error says what to do.
func TestAbsentImage(t *testing.T) {
	const ns, url = "absent-image", "http://echo.absent-image.svc.clusterset.local"
	caller := exportedEcho(t, ns, mesh.West)
	caller.Reaches(t, url, time.Minute, "west")
	traffic := caller.Traffic(t, url, 50, 2*time.Minute)
	traffic.Flowing(50)
	for what, flags := range map[string][]string{
		"again":      {"--hub", "registry.invalid/isthmus"},
		"a revision": {"--hub", "registry.invalid/isthmus", "--revision", "absent"},
	} {
		before := mesh.East.state(t)
		begin := time.Now()
		_, err := mesh.run(t.Context(), append(mesh.InstallArgs(mesh.East), flags...)...)
		if err == nil {
			t.Fatalf("%s: isthmus install has taken an image that is not there", what)
		}
		for _, want := range []string{"image registry.invalid/isthmus/isthmus", "cannot be had", "next: see that registry.invalid/isthmus/isthmus"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not say %q: %v", what, want, err)
			}
		}
		t.Logf("%s: refused after %.1f s", what, time.Since(begin).Seconds())
		if after := mesh.East.state(t); after != before {
			t.Errorf("%s: before\n%s\nafter\n%s", what, before, after)
		}
	}
	traffic.Flowing(50)
	if lost := failures(traffic.Stop()); lost != "" {
		t.Error(lost)
	}
}

// state names what an installation changes: definitions, deployments and webhooks with their generations, and Helm's revisions.
func (c *Cluster) state(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, kind := range []schema.GroupVersionResource{
		{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
		{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"},
		{Group: "apps", Version: "v1", Resource: "deployments"},
	} {
		list, err := c.Dynamic.Resource(kind).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/part-of=isthmus"})
		if err != nil || len(list.Items) == 0 {
			t.Fatalf("%s: %d, %v", kind.Resource, len(list.Items), err)
		}
		for _, obj := range list.Items {
			fmt.Fprintln(&b, kind.Resource, obj.GetName(), obj.GetGeneration())
		}
	}
	releases, err := c.Kube.CoreV1().Secrets("isthmus-system").List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil || len(releases.Items) == 0 {
		t.Fatalf("releases: %d, %v", len(releases.Items), err)
	}
	for _, r := range releases.Items {
		fmt.Fprintln(&b, "release", r.Name)
	}
	return b.String()
}
