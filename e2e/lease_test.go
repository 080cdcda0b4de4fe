//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
)

// A cluster that is lost for longer than its lease leaves the import's clusters and slices by itself; the import, its
// address and the other cluster stay; it comes back by itself (mcs.md §5, leases).
func TestLeaseEnds(t *testing.T) {
	mesh.Needs(t, ThirdCluster, Time)
	const ns, url = "lease", "http://echo.lease.svc.clusterset.local"
	mesh.North.Namespace(t, ns, true)
	caller := exportedEcho(t, ns, mesh.West, mesh.North)
	caller.Reaches(t, url, time.Minute, "west", "north")
	mesh.East.WaitLink(t, "west", time.Minute, v1alpha1.LinkConnected)
	mesh.East.lease(t, "west", "10s")
	address, _ := mesh.East.importSpec(t, ns, "echo")
	if missing := mesh.East.exporters(t.Context(), ns, "echo", "north", "west"); missing != nil {
		t.Fatal(missing)
	}

	mesh.Cut(t, "east", "west", "all", "drop")
	mesh.East.WaitLink(t, "west", time.Minute, v1alpha1.LinkLost)
	Eventually(t, time.Minute, "west leaves", func(ctx context.Context) error { return mesh.East.exporters(ctx, ns, "echo", "north") })
	Eventually(t, 20*time.Second, "west's slices go", func(ctx context.Context) error {
		list, err := mesh.East.importedSlices(ctx, ns, "echo", "west")
		if err == nil && len(list) > 0 {
			err = fmt.Errorf("%d slices", len(list))
		}
		return err
	})
	caller.Reaches(t, url, 20*time.Second, "north")
	if now, _ := mesh.East.importSpec(t, ns, "echo"); now != address {
		t.Errorf("the import's address was %s and is %s", address, now)
	}

	mesh.Heal(t)
	mesh.East.WaitLink(t, "west", 2*time.Minute, v1alpha1.LinkConnected)
	Eventually(t, time.Minute, "west is back", func(ctx context.Context) error {
		return mesh.East.exporters(ctx, ns, "echo", "north", "west")
	})
	caller.Reaches(t, url, time.Minute, "west", "north")
}

// lease sets a link's lease until the test ends.
func (c *Cluster) lease(t *testing.T, to, span string) {
	t.Helper()
	set := func(ctx context.Context, value string) error {
		_, err := c.Dynamic.Resource(linkKind).Namespace("isthmus-system").Patch(ctx, to, types.MergePatchType, []byte(`{"spec":{"lease":`+value+`}}`), metav1.PatchOptions{})
		return err
	}
	if err := set(t.Context(), `"`+span+`"`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := set(ctx, "null"); err != nil {
			t.Error(err)
		}
	})
}

// exporters reports where the import's status names other clusters than these, which are sorted.
func (c *Cluster) exporters(ctx context.Context, ns, name string, want ...string) error {
	obj, err := c.Dynamic.Resource(importKind).Namespace(ns).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	list, _, _ := unstructured.NestedSlice(obj.Object, "status", "clusters")
	var have []string
	for _, c := range list {
		have = append(have, fmt.Sprint(c.(map[string]any)["cluster"]))
	}
	if slices.Sort(have); !slices.Equal(have, want) {
		return fmt.Errorf("status.clusters is %s, want %s", strings.Join(have, ","), strings.Join(want, ","))
	}
	return nil
}
