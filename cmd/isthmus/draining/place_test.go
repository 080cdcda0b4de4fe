package draining

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
)

// On a real API server: the annotation is written, changed and taken away, by hand
// written ones too, and neither it nor an installation that is applied anew harms
// the other. A link is told in the same way; one that is not there is not made.
func TestPlaces(t *testing.T) {
	env := testenv.Start(t)
	env.InstallIsthmus(t)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, env.Kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := cluster.Open(path, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	installed, err := cluster.Parse([]byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: isthmus-system, annotations: {isthmus.dev/network: net1}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(ctx, "", installed...); err != nil {
		t.Fatal(err)
	}
	link, err := cluster.Parse([]byte("apiVersion: isthmus.dev/v1alpha1\nkind: ClusterLink\nmetadata: {name: west}\nspec: {cluster: west, priority: 3}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(ctx, api.SystemNamespace, link...); err != nil {
		t.Fatal(err)
	}
	stages := []*federation.Drain{{Stage: federation.Draining, Since: time.Unix(1000, 0).UTC()}, {Stage: federation.Returning, Share: 25, Since: time.Unix(1000, 0).UTC()}}
	for _, p := range []place{ownPlace(c), linkPlace(c, "west")} {
		for _, d := range append(stages, stages[0], nil, nil) {
			if err := p.write(ctx, d); err != nil {
				t.Fatal(err)
			}
			if got, err := p.read(ctx); err != nil || got.String() != d.String() {
				t.Errorf("%s: %q, %v, want %q", p.what, got, err, d)
			}
		}
	}
	own := ownPlace(c)
	if err := own.write(ctx, stages[0]); err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(ctx, "", installed...); err != nil {
		t.Fatal(err)
	}
	if got, err := own.read(ctx); err != nil || got == nil {
		t.Errorf("after another installation: %v, %v", got, err)
	}
	byHand := []byte(`{"metadata":{"annotations":{"isthmus.dev/drain":"yes, please"}}}`)
	if _, err := c.Kube.CoreV1().Namespaces().Patch(ctx, api.SystemNamespace, types.MergePatchType, byHand, metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
		t.Fatal(err)
	}
	if _, err := own.read(ctx); !errors.Is(err, federation.ErrDrain) {
		t.Errorf("written by hand: %v", err)
	}
	target := &Target{Name: "east", There: c, Peers: map[string]*cluster.Cluster{}}
	if now, said, err := target.now(ctx); now != nil || len(said) != 1 || err != nil {
		t.Errorf("a text that cannot be read: %v, %d places, %v", now, len(said), err)
	}
	if err := own.write(ctx, nil); err != nil {
		t.Fatal(err)
	}
	var ns *corev1.Namespace
	if ns, err = c.Kube.CoreV1().Namespaces().Get(ctx, api.SystemNamespace, metav1.GetOptions{}); err != nil || ns.Annotations[api.AnnotationDrain] != "" || ns.Annotations[api.AnnotationNetwork] != "net1" {
		t.Errorf("in the end: %v, %v", ns.Annotations, err)
	}
	if _, err := linkPlace(c, "nowhere").read(ctx); !apierrors.IsNotFound(err) {
		t.Errorf("no such link: %v", err)
	}
}
