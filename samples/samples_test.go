package samples

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Bookinfo's names are those of Istio's sample.
func TestBookinfoNames(t *testing.T) {
	wantServices := map[string]bool{"details": true, "ratings": true, "reviews": true, "productpage": true}
	wantDeployments := map[string]string{
		"details-v1": "bookinfo-details", "ratings-v1": "bookinfo-ratings", "productpage-v1": "bookinfo-productpage",
		"reviews-v1": "bookinfo-reviews", "reviews-v2": "bookinfo-reviews", "reviews-v3": "bookinfo-reviews", "client": "bookinfo-client", "plain": "",
	}
	services, deployments := readAll(t, "bookinfo/*.yaml")
	for _, s := range services {
		if !wantServices[s.Name] || s.Spec.Ports[0].Port != 9080 || s.Spec.Ports[0].Name != "http" || s.Labels["service"] != s.Name {
			t.Errorf("service %+v", s)
		}
	}
	for _, d := range deployments {
		if got := d.Spec.Template.Spec.ServiceAccountName; got != wantDeployments[d.Name] {
			t.Errorf("deployment %s runs as %q", d.Name, got)
		}
		if d.Spec.Template.Labels["version"] == "" {
			t.Errorf("deployment %s has no version label", d.Name)
		}
	}
	if len(services) != len(wantServices) || len(deployments) != len(wantDeployments) {
		t.Errorf("%d services, %d deployments", len(services), len(deployments))
	}
}

// readAll decodes every document strictly, so that a misspelt field fails.
func readAll(t *testing.T, pattern string) ([]corev1.Service, []appsv1.Deployment) {
	t.Helper()
	names, err := fs.Glob(Files, pattern)
	if err != nil {
		t.Fatal(err)
	}
	var services []corev1.Service
	var deployments []appsv1.Deployment
	for _, name := range names {
		for _, doc := range documents(t, name) {
			var kind struct{ Kind string }
			if err := yaml.Unmarshal(doc, &kind); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			switch kind.Kind {
			case "Service":
				services = append(services, decode[corev1.Service](t, name, doc))
			case "Deployment":
				deployments = append(deployments, decode[appsv1.Deployment](t, name, doc))
			}
		}
	}
	return services, deployments
}

func documents(t *testing.T, name string) [][]byte {
	t.Helper()
	data, err := Files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	in := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	var docs [][]byte
	for {
		doc, err := in.Read()
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		docs = append(docs, doc)
	}
}

func decode[T any](t *testing.T, name string, doc []byte) T {
	t.Helper()
	var out T
	if err := yaml.UnmarshalStrict(doc, &out); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out
}
