package webhook_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/primary/webhook"
)

// patched returns what the patch makes of the pod that text is.
func patched(t *testing.T, text string) (patch, after []byte) {
	t.Helper()
	before, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return patchedJSON(t, before)
}

func patchedJSON(t *testing.T, before []byte) (patch, after []byte) {
	t.Helper()
	patch, _, err := webhook.Patch(before, "shop", config)
	if err != nil {
		t.Fatal(err)
	}
	if patch == nil {
		return nil, before
	}
	decoded, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		t.Fatal(err)
	}
	if after, err = decoded.Apply(before); err != nil {
		t.Fatalf("%v\n%s", err, patch)
	}
	return patch, after
}

// The patch makes of a pod what injection does, each time by the same bytes.
func TestPatch(t *testing.T) {
	twisted := inject(t, pod(t, reviews))
	list := twisted.Spec.InitContainers
	list[0], list[3] = list[3], list[0] // ours are where others have put them
	back, err := yaml.Marshal(twisted)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"plain": reviews, "template": template, "out of place": string(back)} {
		patch, after := patched(t, text)
		var got corev1.Pod
		if err := json.Unmarshal(after, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(inject(t, pod(t, text)), &got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if again, _ := patched(t, text); !bytes.Equal(patch, again) {
			t.Errorf("%s: another patch the second time", name)
		}
		if more, _ := patchedJSON(t, after); more != nil {
			t.Errorf("%s: injected once more: %s", name, more)
		}
	}
}

// A field that this release does not know stays with its container, which moves.
func TestPatchKeepsUnknownFields(t *testing.T) {
	const text = `
metadata: {name: p, future: m}
spec:
  future: s
  initContainers: [{name: first, future: 1}, {name: second, future: 2}]
  containers: [{name: app, future: 3, livenessProbe: {future: 4, tcpSocket: {port: 1}}}, {name: isthmus-proxy, image: auto}, {name: other, future: 5}]
  volumes: [{name: isthmus-data, emptyDir: {}}, {name: work, future: 6}]
`
	type item struct {
		Name          string
		Future        any
		LivenessProbe *struct{ Future any }
	}
	var got struct {
		Metadata, Spec struct {
			Future                              string
			InitContainers, Containers, Volumes []item
		}
	}
	_, after := patched(t, text)
	if err := json.Unmarshal(after, &got); err != nil {
		t.Fatal(err)
	}
	if got.Metadata.Future != "m" || got.Spec.Future != "s" {
		t.Errorf("the pod lost fields: %s", after)
	}
	found := map[string]any{}
	for _, list := range [][]item{got.Spec.InitContainers, got.Spec.Containers, got.Spec.Volumes} {
		for _, i := range list {
			if i.Future != nil {
				found[i.Name] = i.Future
			}
			if i.LivenessProbe != nil {
				found[i.Name+" probe"] = i.LivenessProbe.Future
			}
		}
	}
	want := map[string]any{"first": 1.0, "second": 2.0, "app": 3.0, "app probe": 4.0, "other": 5.0, "work": 6.0}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Error(diff)
	}
}

func TestPatchRefuses(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"nothing":       {"", "decode pod"},
		"null":          {"null", "no containers"},
		"empty":         {"{}", "no containers"},
		"another kind":  {`{"kind":"ConfigMap","spec":{"containers":[{"name":"a"}]}}`, "it is a ConfigMap"},
		"a list":        {"[]", "decode pod"},
		"deeply nested": {strings.Repeat(`{"spec":`, 20_000) + strings.Repeat("}", 20_000), "decode pod"},
	} {
		if _, _, err := webhook.Patch([]byte(test.text), "shop", config); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever pod comes in, the patch applies to it, and gives a pod that needs none.
func FuzzPatch(f *testing.F) {
	for _, text := range []string{reviews, template, `{spec: {containers: [{name: a}, {name: a}, {}]}}`} {
		data, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p corev1.Pod
		if json.Unmarshal(data, &p) != nil {
			return
		}
		before, err := json.Marshal(&p) // as the API server would send it
		if err != nil {
			return
		}
		if _, _, err := webhook.Patch(before, "shop", config); err != nil {
			return
		}
		_, after := patchedJSON(t, before)
		var got corev1.Pod
		if err := json.Unmarshal(after, &got); err != nil {
			t.Fatal(err)
		}
		result, err := webhook.Inject(&p, config)
		if err != nil {
			return // its own namespace may be the system's
		}
		if diff := cmp.Diff(result.Pod.Spec, got.Spec); diff != "" && result.Skipped == "" {
			t.Error(diff)
		}
	})
}
