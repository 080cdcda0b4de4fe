package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	mcscrd "sigs.k8s.io/mcs-api/config/crd"
	"sigs.k8s.io/yaml"
)

// InstallCRDs applies the CustomResourceDefinitions in documents, each YAML of
// any number of objects, and waits until all are served.
func (e *Env) InstallCRDs(t testing.TB, documents ...[]byte) {
	t.Helper()
	client, err := dynamic.NewForConfig(e.Config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, document := range documents {
		crds, err := parseObjects(document)
		if err != nil {
			t.Fatalf("read CRDs: %v", err)
		}
		for _, crd := range crds {
			if err := installCRD(ctx, client, crd); err != nil {
				t.Fatalf("install CRD %s: %v", crd.GetName(), err)
			}
		}
	}
}

// InstallMCS installs the CRDs of the Multi-Cluster Services API.
func (e *Env) InstallMCS(t testing.TB) {
	t.Helper()
	e.InstallCRDs(t, mcscrd.ServiceExportCRD, mcscrd.ServiceImportCRD)
}

// InstallIsthmus installs the CRDs of install/crds.
func (e *Env) InstallIsthmus(t testing.TB) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(e.Root, "install", "crds", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("find CRDs in install/crds: %d files, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		e.InstallCRDs(t, data)
	}
}

func parseObjects(document []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	reader := utilyaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(document)))
	defer reader.Close()
	buffer := make([]byte, len(document)+1)
	for {
		n, err := reader.Read(buffer)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(buffer[:n], &object.Object); err != nil {
			return nil, err
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

func installCRD(ctx context.Context, client dynamic.Interface, crd *unstructured.Unstructured) error {
	crds := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	data, err := crd.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = crds.Patch(ctx, crd.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: "testenv", Force: new(true)})
	if err != nil {
		return err
	}
	return poll(ctx, "served", func() (bool, error) {
		got, err := crds.Get(ctx, crd.GetName(), metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return established(got) && served(ctx, client, got), nil
	})
}

func established(crd *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
	for _, condition := range conditions {
		c, _ := condition.(map[string]any)
		if c["type"] == "Established" && c["status"] == "True" {
			return true
		}
	}
	return false
}

// served reports whether every served version answers: a CRD is established a
// moment before its resources can be listed.
func served(ctx context.Context, client dynamic.Interface, crd *unstructured.Unstructured) bool {
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, version := range versions {
		v, _ := version.(map[string]any)
		name, _ := v["name"].(string)
		if v["served"] != true {
			continue
		}
		resource := schema.GroupVersionResource{Group: group, Version: name, Resource: plural}
		if _, err := client.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
			return false
		}
	}
	return true
}

// poll asks until the answer is yes, an error, or ctx has ended.
func poll(ctx context.Context, what string, ask func() (bool, error)) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		ok, err := ask()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, ctx.Err())
		case <-ticker.C:
		}
	}
}
