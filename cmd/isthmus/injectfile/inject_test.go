package injectfile

import (
	"bytes"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
)

const manifests = `apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a: b}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: example/web}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "0 0 * * *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: job, image: example/job}]}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: alone, labels: {isthmus.dev/inject: "false"}}
spec: {containers: [{name: a, image: example/a}]}
`

var config = webhook.Config{Image: "isthmus-mesh/isthmus-proxy:dev", Version: "dev", Cluster: "east", Network: "east", TrustDomain: "cluster.local",
	Discovery: "isthmusd.isthmus-system.svc:15012", DiscoveryCluster: "east", Dataplane: "builtin"}

// Pods get sidecars wherever they are, all else stays, and a second time changes nothing.
func TestManifests(t *testing.T) {
	out, injected, err := Manifests([]byte(manifests), config)
	if err != nil {
		t.Fatal(err)
	}
	if injected != 2 {
		t.Errorf("%d injected", injected)
	}
	objs, err := cluster.Parse(out)
	if err != nil || len(objs) != 4 {
		t.Fatalf("%d objects, %v", len(objs), err)
	}
	for i, want := range []int{0, 2, 2, 0} {
		path := append(append([]string{}, templates[objs[i].GetKind()]...), "spec", "initContainers")
		list, _, _ := unstructured.NestedSlice(objs[i].Object, path...)
		if len(list) != want {
			t.Errorf("%s has %d init containers, want %d", objs[i].GetKind(), len(list), want)
		}
	}
	again, _, err := Manifests(out, config)
	if err != nil || !bytes.Equal(again, out) {
		t.Errorf("a second injection changed something: %v", err)
	}
}

func TestManifestsRefuses(t *testing.T) {
	for _, in := range []string{"a: [", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: 7}"} {
		if _, _, err := Manifests([]byte(in), config); err == nil {
			t.Errorf("%q was taken", in)
		}
	}
}
