package injectfile

import (
	"bytes"
	"strings"
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
	out, err := Manifests([]byte(manifests), "shop", config)
	if err != nil {
		t.Fatal(err)
	}
	if out.Injected != 2 || len(out.Notes) != 1 || out.Notes[0] != "Pod alone: no sidecar: the pod opted out" {
		t.Errorf("%d injected, notes %q", out.Injected, out.Notes)
	}
	objs, err := cluster.Parse(out.Manifests)
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
	again, err := Manifests(out.Manifests, "shop", config)
	if err != nil || !bytes.Equal(again.Manifests, out.Manifests) {
		t.Errorf("a second injection changed something: %v", err)
	}
}

// A List's items get sidecars, and what has no name yet; a namespace of the system's
// does not, whether the object names it or the command.
func TestKinds(t *testing.T) {
	const pod = `spec: {containers: [{name: a, image: a}]}`
	for name, test := range map[string]struct {
		in, namespace string
		injected      int
		note          string
	}{
		"list":            {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}, " + pod + "}\n- {apiVersion: v1, kind: Secret, metadata: {name: s}}\n- {apiVersion: v1, kind: Pod, metadata: {name: b}, " + pod + "}", "shop", 2, ""},
		"typed list":      {"apiVersion: v1\nkind: PodList\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}, " + pod + "}", "shop", 1, ""},
		"generated name":  {"apiVersion: batch/v1\nkind: Job\nmetadata: {generateName: j-}\nspec: {template: {" + pod + "}}", "shop", 1, ""},
		"JSON":            {`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"a","image":"a"}]}}`, "shop", 1, ""},
		"system":          {"apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: kube-system}\n" + pod, "shop", 0, "kube-system is the system's"},
		"system, by flag": {"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n" + pod, "kube-system", 0, "kube-system is the system's"},
		"another group":   {"apiVersion: example.com/v1\nkind: Deployment\nmetadata: {name: a}", "shop", 0, ""},
		"warned":          {"apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {sidecar.istio.io/proxyImage: x}}\n" + pod, "shop", 1, "sidecar.istio.io/proxyImage"},
		"nothing":         {"---\n# nothing\n---\n", "shop", 0, ""},
	} {
		out, err := Manifests([]byte(test.in), test.namespace, config)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		told := strings.Join(out.Notes, " ")
		if out.Injected != test.injected || (told == "") != (test.note == "") || !strings.Contains(told, test.note) {
			t.Errorf("%s: %d injected, notes %q", name, out.Injected, told)
		}
	}
}

// A field that this release does not know stays, and so do large numbers.
func TestUnknownFields(t *testing.T) {
	out, err := Manifests([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {future: 9007199254740993, containers: [{name: a, future: [x]}]}"), "shop", config)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"future: 9007199254740993", "  - future:\n    - x\n    name: a\n"} {
		if !bytes.Contains(out.Manifests, []byte(want)) {
			t.Errorf("%q is not in\n%s", want, out.Manifests)
		}
	}
}

func TestManifestsRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"a: [": "document 1",
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}":                                                                            "no pod template",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: 7}":                                                                 "Pod x",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {}":                   "document 2: Pod x",
		"kind: Pod\nmetadata: {name: x}":                                                                                                        "kind or apiVersion",
		"apiVersion: v1\nkind: List\nitems: [7]":                                                                                                "item 0",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: x, annotations: {isthmus.dev/exclude-outbound-ports: x}}\nspec: {containers: [{name: a}]}": "isthmus.dev/exclude-outbound-ports",
	} {
		if _, err := Manifests([]byte(in), "shop", config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
}
