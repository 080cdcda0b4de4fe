package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/internal/testenv"
)

const deployment = `
apiVersion: v1
kind: ConfigMap
metadata: {name: one}
data: {a: "1"}
---
# an empty document

---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: example/web}]}
`

func TestParseRefuses(t *testing.T) {
	for _, in := range []string{"kind: ConfigMap", "apiVersion: v1\nkind: ConfigMap\nmetadata: {}", "a: [", "just text"} {
		if objs, err := Parse([]byte(in)); err == nil {
			t.Errorf("%q gave %v", in, objs)
		}
	}
}

// Objects are applied, changed, scaled, waited for and deleted on a real API server.
func TestObjects(t *testing.T) {
	env := testenv.Start(t)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, env.Kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, "nowhere"); !errors.Is(err, ErrNoContext) {
		t.Errorf("open an unknown context: %v", err)
	}
	c, err := Open(path, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if v, err := c.Version(ctx); err != nil || !strings.HasPrefix(v, "v1.") {
		t.Errorf("version %q, %v", v, err)
	}
	ns := env.Namespace(t)
	objs, err := Parse([]byte(deployment))
	if err != nil || len(objs) != 2 {
		t.Fatalf("%d objects, %v", len(objs), err)
	}
	for range 2 {
		if err := c.Apply(ctx, ns, objs...); err != nil {
			t.Fatal(err)
		}
	}
	before, err := c.Scale(ctx, ns, "web", 0)
	if err != nil || before != 2 {
		t.Errorf("scale: before %d, %v", before, err)
	}
	d, err := c.Kube.AppsV1().Deployments(ns).Get(ctx, "web", metav1.GetOptions{})
	if err != nil || *d.Spec.Replicas != 0 {
		t.Errorf("not scaled: %v", err)
	}
	for range 2 {
		if err := c.Delete(ctx, ns, objs...); err != nil {
			t.Error(err)
		}
	}
}

// A wait in vain says what was missing.
func TestWaitSaysWhatIsMissing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := Until(ctx, "the end", func(context.Context) (string, error) { return "1 of 2 ready", nil })
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "wait for the end: 1 of 2 ready") {
		t.Errorf("err %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = Until(ctx, "the end", func(context.Context) (string, error) { return "", errors.New("no server") })
	if err == nil || !strings.Contains(err.Error(), "no server") {
		t.Errorf("err %v", err)
	}
}
