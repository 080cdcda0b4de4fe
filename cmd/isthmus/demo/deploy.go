package demo

import (
	"context"
	"fmt"
	"io/fs"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/samples"
)

// servicesDomain makes productpage call names that reach the whole clusterset.
const servicesDomain = Namespace + ".svc.clusterset.local"

// Deploy applies Bookinfo and its client in c, whose answers name it name, and
// waits until all pods are ready.
func Deploy(ctx context.Context, c *cluster.Cluster, name string) error {
	objs, err := Manifests(name)
	if err != nil {
		return err
	}
	if err := c.Apply(ctx, Namespace, objs...); err != nil {
		return err
	}
	var deployments []string
	for _, obj := range objs {
		if obj.GetKind() == "Deployment" {
			deployments = append(deployments, obj.GetName())
		}
	}
	return c.WaitDeployments(ctx, Namespace, deployments...)
}

// deployPlain applies the pod without a sidecar, once its namespace is there, and waits until it is ready.
func deployPlain(ctx context.Context, c *cluster.Cluster) error {
	namespace, err := read("bookinfo/namespace.yaml")
	if err != nil {
		return err
	}
	plain, err := read("bookinfo/plain.yaml")
	if err != nil {
		return err
	}
	if err := c.Apply(ctx, Namespace, append(namespace, plain...)...); err != nil {
		return err
	}
	return c.WaitDeployments(ctx, Namespace, "plain")
}

// Manifests returns Bookinfo's objects, the namespace first and without the
// exports, for the cluster name.
func Manifests(name string) ([]*unstructured.Unstructured, error) {
	objs, err := read("bookinfo/namespace.yaml")
	if err != nil {
		return nil, err
	}
	objs = append(objs, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "cluster"}, "data": map[string]any{"name": name},
	}})
	for _, file := range []string{"details", "ratings", "reviews", "productpage", "client"} {
		more, err := read("bookinfo/" + file + ".yaml")
		if err != nil {
			return nil, err
		}
		objs = append(objs, more...)
	}
	for _, obj := range objs {
		if obj.GetKind() == "Deployment" && obj.GetName() == "productpage-v1" {
			if err := setEnv(obj, "SERVICES_DOMAIN", servicesDomain); err != nil {
				return nil, err
			}
		}
	}
	return objs, nil
}

func read(file string) ([]*unstructured.Unstructured, error) {
	data, err := fs.ReadFile(samples.Files, file)
	if err != nil {
		return nil, err
	}
	return cluster.Parse(data)
}

// setEnv gives the first container of a deployment an environment variable.
func setEnv(obj *unstructured.Unstructured, name, value string) error {
	path := []string{"spec", "template", "spec", "containers"}
	containers, _, err := unstructured.NestedSlice(obj.Object, path...)
	if err != nil || len(containers) == 0 {
		return fmt.Errorf("deployment %s has no containers: %w", obj.GetName(), err)
	}
	first, ok := containers[0].(map[string]any)
	if !ok {
		return fmt.Errorf("deployment %s: container is no object", obj.GetName())
	}
	env, _ := first["env"].([]any)
	first["env"] = append(env, map[string]any{"name": name, "value": value})
	return unstructured.SetNestedSlice(obj.Object, containers, path...)
}
