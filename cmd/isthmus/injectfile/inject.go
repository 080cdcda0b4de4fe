// Package injectfile puts sidecars into manifests, by the very function that the
// webhook uses.
package injectfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
)

// templates tells for each kind where its pod is.
var templates = map[string][]string{
	"Pod": {}, "Deployment": {"spec", "template"}, "StatefulSet": {"spec", "template"}, "DaemonSet": {"spec", "template"},
	"ReplicaSet": {"spec", "template"}, "Job": {"spec", "template"}, "CronJob": {"spec", "jobTemplate", "spec", "template"},
}

// groups are those in which the kinds are ours to change.
var groups = []string{corev1.GroupName, appsv1.GroupName, batchv1.GroupName}

// Manifests returns manifests, a stream of YAML documents, with a sidecar in each
// pod; documents without a pod stay as they are, in their order. injected counts the
// pods that have one now.
func Manifests(manifests []byte, cfg webhook.Config) (out []byte, injected int, err error) {
	objs, err := cluster.Parse(manifests)
	if err != nil {
		return nil, 0, err
	}
	var docs [][]byte
	for _, obj := range objs {
		done, err := object(obj, cfg)
		if err != nil {
			return nil, 0, fmt.Errorf("%s %s: %w", obj.GetKind(), obj.GetName(), err)
		}
		if done {
			injected++
		}
		doc, err := yaml.Marshal(obj.Object)
		if err != nil {
			return nil, 0, err
		}
		docs = append(docs, doc)
	}
	return bytes.Join(docs, []byte("---\n")), injected, nil
}

// object changes obj where it has a pod that takes a sidecar.
func object(obj *unstructured.Unstructured, cfg webhook.Config) (bool, error) {
	path, ok := templates[obj.GetKind()]
	if !ok || !slices.Contains(groups, obj.GroupVersionKind().Group) {
		return false, nil
	}
	template := obj.Object
	if len(path) > 0 {
		found, ok, err := unstructured.NestedMap(obj.Object, path...)
		if err != nil || !ok {
			return false, fmt.Errorf("it has no pod template: %w", err)
		}
		template = found
	}
	var pod corev1.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(template, &pod); err != nil {
		return false, err
	}
	if webhook.Skip(&pod) != "" {
		return false, nil
	}
	changed, err := webhook.Inject(&pod, cfg)
	if err != nil {
		return false, err
	}
	parts, err := parts(changed)
	if err != nil {
		return false, err
	}
	for _, name := range []string{"metadata", "spec"} {
		template[name] = parts[name]
	}
	if len(path) > 0 {
		return true, unstructured.SetNestedMap(obj.Object, template, path...)
	}
	return true, nil
}

// parts returns a pod's metadata and spec as they are written in a manifest.
func parts(pod *corev1.Pod) (map[string]any, error) {
	text, err := json.Marshal(pod)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, err
	}
	if meta, ok := out["metadata"].(map[string]any); ok {
		delete(meta, "creationTimestamp") // null in older forms
	}
	return out, nil
}
