package install_test

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/install"
)

func find(objs []*unstructured.Unstructured, kind, name string) *unstructured.Unstructured {
	for _, o := range objs {
		if o.GetKind() == kind && o.GetName() == name {
			return o
		}
	}
	return nil
}

func TestRender(t *testing.T) {
	objs, err := install.Render(install.Values{
		Cluster: "east", Network: "net1", Tag: "v1", Strict: true,
		CA:               &install.CA{Chain: []byte("chain\n"), Key: []byte("key\n"), Bundle: []byte("bundle\n")},
		GatewayAddresses: []string{"192.0.2.1:15443", "192.0.2.2:15443"},
		AllowServers:     []string{"127.0.0.1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if objs[0].GetKind() != "CustomResourceDefinition" || objs[len(objs)-1].GetKind() != "Deployment" {
		t.Errorf("order: first %s, last %s", objs[0].GetKind(), objs[len(objs)-1].GetKind())
	}
	ns := find(objs, "Namespace", "isthmus-system")
	if got := ns.GetAnnotations()["isthmus.dev/network"]; got != "net1" {
		t.Errorf("network annotation %q", got)
	}
	d := find(objs, "Deployment", "isthmusd")
	containers, _, _ := unstructured.NestedSlice(d.Object, "spec", "template", "spec", "containers")
	c := containers[0].(map[string]any)
	if c["image"] != "isthmus-mesh/isthmusd:v1" {
		t.Errorf("image %v", c["image"])
	}
	for _, want := range []string{"--cluster=east", "--network=net1", "--proxy-image=isthmus-mesh/isthmus-proxy:v1", "--allow-server=127.0.0.1"} {
		if !slices.Contains(c["args"].([]any), any(want)) {
			t.Errorf("args %v lack %s", c["args"], want)
		}
	}
	if got := find(objs, "Service", "isthmus-eastwest").GetAnnotations()["isthmus.dev/gateway-addresses"]; got != "192.0.2.1:15443,192.0.2.2:15443" {
		t.Errorf("gateway addresses %q", got)
	}
	for _, want := range [][2]string{
		{"Secret", "isthmus-ca"}, {"PeerAuthentication", "default"}, {"MutatingWebhookConfiguration", "isthmus"}, {"ConfigMap", "isthmus-ca-root"},
		{"CustomResourceDefinition", "serviceimports.multicluster.x-k8s.io"}, {"CustomResourceDefinition", "clusterlinks.isthmus.dev"},
	} {
		if find(objs, want[0], want[1]) == nil {
			t.Errorf("no %s %s", want[0], want[1])
		}
	}
}

// What is not said takes the chart's defaults: the network is the cluster's
// name, no CA Secret is written, plaintext is allowed.
func TestRenderDefaults(t *testing.T) {
	objs, err := install.Render(install.Values{Cluster: "west"})
	if err != nil {
		t.Fatal(err)
	}
	if got := find(objs, "Namespace", "isthmus-system").GetAnnotations()["isthmus.dev/network"]; got != "west" {
		t.Errorf("network annotation %q", got)
	}
	if find(objs, "Secret", "isthmus-ca") != nil || find(objs, "PeerAuthentication", "default") != nil {
		t.Error("a Secret or a PeerAuthentication that nobody asked for")
	}
}

// isthmusd may read Secrets in its own namespace and nowhere else.
func TestNoSecretsClusterWide(t *testing.T) {
	objs, err := install.Render(install.Values{Cluster: "west"})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objs {
		if o.GetKind() != "ClusterRole" {
			continue
		}
		rules, _, _ := unstructured.NestedSlice(o.Object, "rules")
		for _, r := range rules {
			rule := r.(map[string]any)
			groups, resources := rule["apiGroups"].([]any), rule["resources"].([]any)
			if slices.Contains(resources, any("secrets")) || slices.Contains(groups, any("*")) ||
				slices.Contains(groups, any("")) && slices.Contains(resources, any("*")) {
				t.Errorf("ClusterRole %s reaches Secrets: %v", o.GetName(), rule)
			}
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	for name, v := range map[string]install.Values{
		"no cluster":      {},
		"bad cluster":     {Cluster: "East_1"},
		"misspelt value":  {Cluster: "east", Extra: map[string]any{"controlPlane": map[string]any{"replicaz": 2}}},
		"unknown section": {Cluster: "east", Extra: map[string]any{"gatway": map[string]any{}}},
		"wrong type":      {Cluster: "east", Extra: map[string]any{"gateway": map[string]any{"replicas": "two"}}},
		"key alone":       {Cluster: "east", CA: &install.CA{Key: []byte("key")}},
	} {
		if _, err := install.Render(v); err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "\n\n") {
			t.Errorf("%s: error of several paragraphs: %v", name, err)
		}
	}
}
