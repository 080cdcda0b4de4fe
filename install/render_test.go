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
		{"ValidatingAdmissionPolicy", "isthmus-imports"}, {"ValidatingAdmissionPolicyBinding", "isthmus-imports"}, {"NetworkPolicy", "isthmus-entry"},
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

// A cluster without a control plane has its gateways, the way to the one that
// serves it, and nothing that belongs to isthmusd.
func TestRenderWithoutControlPlane(t *testing.T) {
	objs, err := install.Render(install.Values{
		Cluster: "west", Primary: "east", CA: &install.CA{Chain: []byte("chain"), Key: []byte("key"), Bundle: []byte("bundle")},
		Extra: map[string]any{"controlPlane": map[string]any{"enabled": false}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objs {
		switch {
		case o.GetName() == "isthmusd" && o.GetKind() != "Service", o.GetKind() == "Secret", o.GetKind() == "ClusterRole":
			t.Errorf("%s %s belongs to a control plane", o.GetKind(), o.GetName())
		}
	}
	for _, want := range [][2]string{{"Deployment", "isthmus-eastwest"}, {"Deployment", "isthmus-entry"}, {"ConfigMap", "isthmus-ca-root"}, {"ConfigMap", "isthmus"}} {
		if find(objs, want[0], want[1]) == nil {
			t.Errorf("no %s %s", want[0], want[1])
		}
	}
	if _, has, _ := unstructured.NestedMap(find(objs, "Service", "isthmusd").Object, "spec", "selector"); has {
		t.Error("the Service isthmusd has a selector: its endpoints are the primary's to write")
	}
	hooks, _, _ := unstructured.NestedSlice(find(objs, "MutatingWebhookConfiguration", "isthmus").Object, "webhooks")
	for _, h := range hooks {
		if path, _, _ := unstructured.NestedString(h.(map[string]any), "clientConfig", "service", "path"); path != "/inject/west" {
			t.Errorf("webhook path %q", path)
		}
	}
	if got, _, _ := unstructured.NestedString(find(objs, "ConfigMap", "isthmus").Object, "data", "primary"); got != "east" {
		t.Errorf("the mesh's ConfigMap names primary %q", got)
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

// What is refused is refused with the value's name.
func TestRenderRefuses(t *testing.T) {
	section := func(name, key string, value any) install.Values {
		return install.Values{Cluster: "east", Extra: map[string]any{name: map[string]any{key: value}}}
	}
	for name, c := range map[string]struct {
		values install.Values
		says   string
	}{
		"no cluster":         {install.Values{}, "cluster"},
		"bad cluster":        {install.Values{Cluster: "East_1"}, "cluster"},
		"misspelt value":     {section("controlPlane", "replicaz", 2), "replicaz"},
		"unknown section":    {install.Values{Cluster: "east", Extra: map[string]any{"gatway": map[string]any{}}}, "gatway"},
		"wrong type":         {section("gateway", "replicas", "two"), "replicas"},
		"key alone":          {install.Values{Cluster: "east", CA: &install.CA{Key: []byte("key")}}, "ca.chain"},
		"misspelt entry":     {section("entry", "port", "20000-29999"), "port"},
		"no range":           {section("entry", "ports", "20000"), "entry.ports"},
		"ports as a number":  {section("entry", "ports", 20000), "entry.ports"},
		"range backwards":    {section("entry", "ports", "29999-20000"), "ascending order"},
		"range too far":      {section("entry", "ports", "20000-70000"), "1024-65535"},
		"range over ours":    {section("entry", "ports", "14000-16000"), "the proxy's own"},
		"range over 15444":   {section("entry", "ports", "15400-15500"), "port 15444"},
		"caller no range":    {section("entry", "from", []any{"10.0.0.1"}), "entry.from"},
		"callers no list":    {section("entry", "from", "10.0.0.0/8"), "entry.from"},
		"guard as text":      {section("imports", "guard", "yes"), "guard"},
		"addresses IPv6":     {install.Values{Cluster: "east", Extra: map[string]any{"syntheticRange": "fd00::/64"}}, "syntheticRange"},
		"addresses no range": {install.Values{Cluster: "east", Extra: map[string]any{"syntheticRange": "240.241.0.0"}}, "syntheticRange"},
		"addresses too many": {install.Values{Cluster: "east", Extra: map[string]any{"syntheticRange": "240.0.0.0/4"}}, "syntheticRange"},
		"lease no time":      {install.Values{Cluster: "east", Extra: map[string]any{"lease": "10 minutes"}}, "lease"},
		"our namespace":      {install.Values{Cluster: "east", Extra: map[string]any{"exportNamespaces": []any{"isthmus-system"}}}, "exportNamespaces"},
		"no such address":    {install.Values{Cluster: "east", Extra: map[string]any{"syntheticRange": "240.256.0.0/16"}}, "syntheticRange"},
	} {
		switch _, err := install.Render(c.values); {
		case err == nil:
			t.Errorf("%s: accepted", name)
		case strings.Contains(err.Error(), "\n\n"):
			t.Errorf("%s: error of several paragraphs: %v", name, err)
		case !strings.Contains(strings.ReplaceAll(err.Error(), "/", "."), c.says):
			t.Errorf("%s: %v, which does not say %q", name, err, c.says)
		}
	}
}
