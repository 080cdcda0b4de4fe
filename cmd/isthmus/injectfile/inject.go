// Package injectfile puts sidecars into manifests, by the very patch that the
// webhook answers with.
package injectfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/primary/webhook"
)

// templates tells for each kind where its pod is.
var templates = map[string][]string{
	"Pod": {}, "Deployment": {"spec", "template"}, "StatefulSet": {"spec", "template"}, "DaemonSet": {"spec", "template"},
	"ReplicaSet": {"spec", "template"}, "ReplicationController": {"spec", "template"},
	"Job": {"spec", "template"}, "CronJob": {"spec", "jobTemplate", "spec", "template"},
}

// groups are those in which the kinds are ours to change.
var groups = []string{corev1.GroupName, appsv1.GroupName, batchv1.GroupName}

// A Result is manifests with sidecars in their pods.
type Result struct {
	Manifests []byte   // a stream of YAML documents, in their order
	Injected  int      // pods that have a sidecar now
	Notes     []string // pods that were left alone and why, and what the webhook would warn of
}

// Manifests puts a sidecar in each pod of manifests, a stream of YAML or JSON
// documents, also within Lists. Those without a pod stay as they are; comments go.
// Objects without a namespace count as in namespace.
func Manifests(manifests []byte, namespace string, cfg webhook.Config) (Result, error) {
	in := injector{cfg: cfg, namespace: namespace}
	var docs [][]byte
	dec := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	for n := 1; ; n++ {
		obj, err := decode(dec)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Result{}, fmt.Errorf("decode document %d: %w", n, err)
		}
		if len(obj) == 0 {
			continue
		}
		if obj, err = in.object(obj); err != nil {
			return Result{}, fmt.Errorf("document %d: %w", n, err)
		}
		doc, err := yaml.Marshal(obj)
		if err != nil {
			return Result{}, err
		}
		docs = append(docs, doc)
	}
	in.Manifests = bytes.Join(docs, []byte("---\n"))
	return in.Result, nil
}

// decode returns the next document, with whole numbers as they are.
func decode(dec *utilyaml.YAMLOrJSONDecoder) (map[string]any, error) {
	var raw runtime.RawExtension
	if err := dec.Decode(&raw); err != nil || len(raw.Raw) == 0 {
		return nil, err
	}
	var obj map[string]any
	return obj, kjson.UnmarshalCaseSensitivePreserveInts(raw.Raw, &obj)
}

type injector struct {
	cfg       webhook.Config
	namespace string
	Result
}

// object returns obj with a sidecar where it has a pod that takes one.
func (in *injector) object(obj map[string]any) (map[string]any, error) {
	u := &unstructured.Unstructured{Object: obj}
	if u.GetKind() == "" || u.GetAPIVersion() == "" {
		return nil, errors.New("an object without kind or apiVersion")
	}
	if items, ok := obj["items"].([]any); ok && strings.HasSuffix(u.GetKind(), "List") {
		return obj, in.items(items)
	}
	path, ok := templates[u.GetKind()]
	if !ok || !slices.Contains(groups, u.GroupVersionKind().Group) {
		return obj, nil
	}
	title := u.GetKind() + " " + name(u)
	out, err := in.template(u, path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", title, err)
	}
	return out, nil
}

func (in *injector) items(items []any) error {
	for i, item := range items {
		obj, ok := item.(map[string]any)
		if !ok {
			return fmt.Errorf("item %d is not an object", i)
		}
		done, err := in.object(obj)
		if err != nil {
			return fmt.Errorf("item %d: %w", i, err)
		}
		items[i] = done
	}
	return nil
}

// template patches the pod or the pod's template at path of u.
func (in *injector) template(u *unstructured.Unstructured, path []string) (map[string]any, error) {
	template := u.Object
	if len(path) > 0 {
		found, ok, err := unstructured.NestedMap(u.Object, path...)
		if err != nil || !ok {
			return nil, fmt.Errorf("it has no pod template at %s", strings.Join(path, "."))
		}
		template = found
	}
	if template["metadata"] == nil { // which a pod has, and a template may lack
		template["metadata"] = map[string]any{}
	}
	before, err := json.Marshal(template)
	if err != nil {
		return nil, err
	}
	namespace := u.GetNamespace()
	if namespace == "" {
		namespace = in.namespace
	}
	patch, result, err := webhook.Patch(before, namespace, in.cfg)
	if err != nil {
		return nil, err
	}
	in.note(u, result)
	if patch == nil {
		return u.Object, nil
	}
	after, err := apply(before, patch)
	if err != nil {
		return nil, err
	}
	if len(path) == 0 {
		return after, nil
	}
	return u.Object, unstructured.SetNestedMap(u.Object, after, path...)
}

func (in *injector) note(u *unstructured.Unstructured, result webhook.Result) {
	title := u.GetKind() + " " + name(u) + ": "
	if result.Skipped == "" {
		in.Injected++
	} else {
		in.Notes = append(in.Notes, title+"no sidecar: "+result.Skipped)
		return
	}
	for _, w := range result.Warnings {
		in.Notes = append(in.Notes, title+strings.TrimPrefix(w, "isthmus: "))
	}
}

func name(u *unstructured.Unstructured) string {
	if n := u.GetName(); n != "" {
		return n
	}
	return u.GetGenerateName() + "(generated)"
}

// apply does as the API server does with the webhook's answer.
func apply(before, patch []byte) (map[string]any, error) {
	decoded, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, fmt.Errorf("decode patch: %w", err)
	}
	after, err := decoded.Apply(before)
	if err != nil {
		return nil, fmt.Errorf("apply patch: %w", err)
	}
	var out map[string]any
	return out, kjson.UnmarshalCaseSensitivePreserveInts(after, &out)
}
