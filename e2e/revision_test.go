//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Two revisions of a control plane side by side: a namespace that bears the second one's name gets its proxies from there, and these call
// across clusters as others do; the rest stays with the first. When the second goes, nothing else does.
func TestTwoRevisions(t *testing.T) {
	const ns, url = "revision", "http://echo.revision.svc.clusterset.local"
	mesh.Needs(t, Time)
	first := exportedEcho(t, ns, mesh.West)
	first.Reaches(t, url, time.Minute, "west")
	mesh.Cleanup(t, "uninstall", "east", "--revision", "canary")
	for range 2 {
		mesh.CLI(t, append(mesh.InstallArgs(mesh.East), "--revision", "canary", "--tag", "next")...)
	}
	leader := mesh.East.leader(t)

	const labelled = ns + "-canary"
	mesh.East.Namespace(t, labelled, false)
	patch := []byte(`{"metadata":{"labels":{"istio.io/rev":"canary"}}}`)
	if _, err := mesh.East.Kube.CoreV1().Namespaces().Patch(t.Context(), labelled, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	second := NewCaller(t, mesh.East, labelled)
	s := second.Reaches(t, url, time.Minute, "west")
	if want := []string{"spiffe://cluster.local/ns/" + labelled + "/sa/client"}; !slices.Equal(s.Callers, want) {
		t.Errorf("the server saw callers %v, want %v", s.Callers, want)
	}
	Eventually(t, 30*time.Second, "each proxy is with its revision", func(context.Context) error {
		have := revisions(t)
		if have[labelled+"/"+second.pod] != "canary" || have[ns+"/"+first.pod] != "default" {
			return fmt.Errorf("revisions %v", have)
		}
		return nil
	})
	if now := mesh.East.leader(t); now != leader {
		t.Errorf("the controllers moved from %s to %s", leader, now)
	}

	mesh.CLI(t, "uninstall", "east", "--revision", "canary")
	theirs := []string{"Pod", "ReplicaSet", "EndpointSlice"} // which the garbage collector takes
	left, err := mesh.East.leftovers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range left {
		kind, _, _ := strings.Cut(l, " ")
		if strings.Contains(l, "canary") && !slices.Contains(theirs, kind) && !strings.Contains(l, labelled) {
			t.Errorf("left: %s", l)
		}
	}
	second.Reaches(t, url, 30*time.Second, "west") // with what its proxy has
	first.Reaches(t, url, 30*time.Second, "west")
}

// leader names the pod that runs the controllers.
func (c *Cluster) leader(t *testing.T) string {
	t.Helper()
	lease, err := c.Kube.CoordinationV1().Leases("isthmus-system").Get(t.Context(), "isthmusd", metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity == nil {
		t.Fatalf("lease of %s: %v", c.Name, err)
	}
	return *lease.Spec.HolderIdentity
}

// revisions returns by which revision each proxy of east is served, as the CLI says.
func revisions(t *testing.T) map[string]string {
	t.Helper()
	var list struct {
		Proxies []struct{ Namespace, Pod, Revision string }
	}
	if err := json.Unmarshal([]byte(mesh.CLI(t, "proxy", "list", "east", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, p := range list.Proxies {
		out[p.Namespace+"/"+p.Pod] = p.Revision
	}
	return out
}
