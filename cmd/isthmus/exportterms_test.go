package main

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
)

// installMark makes the API server look like one where the mesh is installed as east and linked
// with others: the marks that the CLI reads, and nothing that runs.
func installMark(t *testing.T, env *testenv.Env, others ...string) {
	t.Helper()
	env.InstallMCS(t)
	env.InstallIsthmus(t)
	env.EnsureNamespace(t, api.SystemNamespace)
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: api.MeshConfigMapName}, Data: map[string]string{"cluster": "east", "network": "east", "trustDomain": "cluster.local"}}
	if _, err := env.Client(t).CoreV1().ConfigMaps(api.SystemNamespace).Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(env.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range others {
		link := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"cluster": name}}}
		link.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("ClusterLink"))
		link.SetName(name)
		if _, err := client.Resource(v1alpha1.GroupVersion.WithResource("clusterlinks")).Namespace(api.SystemNamespace).Create(t.Context(), link, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// Each flag sets its annotation or takes it away, leaves the others alone, and changes nothing the second time.
func TestExportTerms(t *testing.T) {
	env := testenv.Start(t)
	kubeconfig := writeKubeconfig(t, env)
	ns := env.Namespace(t)
	service := ns + "/checkout"
	createService(t, env, ns, "checkout")
	steps := []struct {
		before      func()
		args        string
		code        int
		out         string // of either stream
		annotations map[string]string
	}{
		{args: "--to west", code: exitFailed, out: "the mesh is not installed"},
		{before: func() { installMark(t, env, "west", "north") }, args: "--to west,south", code: exitFailed, out: "linked with no cluster called south; it knows east, north, west"},
		{args: "--to west,east,west", out: "exported, to east, west", annotations: map[string]string{api.AnnotationExportTo: "east,west"}},
		{args: "--to east --to west", out: "exported already, to east, west", annotations: map[string]string{api.AnnotationExportTo: "east,west"}},
		{args: "--entry refuse", out: "changed, to east, west, entry gateways: refuse", annotations: map[string]string{api.AnnotationExportTo: "east,west", api.AnnotationEntry: "refuse"}},
		{args: "", out: "exported already, to east", annotations: map[string]string{api.AnnotationExportTo: "east,west", api.AnnotationEntry: "refuse"}},
		{args: "--to south --force --local-name failover --entry allow", out: "changed, to south, local name: failover", annotations: map[string]string{api.AnnotationExportTo: "south", api.AnnotationLocalName: "failover"}},
		{args: "--to * --local-name local", out: "changed\n"},
		{args: "--to * --local-name local --entry allow", out: "exported already\n"},
		{args: "--to *,west", code: exitUsage, out: "is not the name of a cluster"},
		{args: "--to West --force", code: exitUsage, out: `"West" is not the name of a cluster`},
		{args: "--to=", code: exitUsage, out: "names no cluster"},
		{args: "--entry no", code: exitUsage, out: "it may be allow or refuse"},
		{args: "--local-name yes", code: exitUsage, out: "it may be local or failover"},
	}
	for _, s := range steps {
		if s.before != nil {
			s.before()
		}
		code, stdout, stderr := isthmus(t, kubeconfig, append([]string{"export", service}, strings.Fields(s.args)...)...)
		if code != s.code || !strings.Contains(stdout+stderr, s.out) {
			t.Errorf("export %s: code %d\n%s%s", s.args, code, stdout, stderr)
		}
		if code != 0 {
			continue
		}
		if got := exportAnnotations(t, env, ns, "checkout"); !maps.Equal(got, s.annotations) {
			t.Errorf("export %s: annotations %v", s.args, got)
		}
	}
	_, stdout, _ := isthmus(t, kubeconfig, "export", service, "--to", "west", "--entry", "refuse", "-o", "json")
	var report struct{ Services []exportReport }
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatal(err)
	}
	if r := report.Services[0]; !r.Changed || len(r.To) != 1 || r.To[0] != "west" || r.Entry != "refuse" || r.LocalName != "" {
		t.Errorf("report %+v", r)
	}
	var completed bytes.Buffer
	run(t.Context(), []string{"__complete", "--kubeconfig", kubeconfig, "export", service, "--to", "west,"}, Streams{In: strings.NewReader(""), Out: &completed, Err: io.Discard})
	stdout = completed.String()
	if !strings.Contains(stdout, "west,east\n") || !strings.Contains(stdout, "west,north\n") || strings.Contains(stdout, "west,west") {
		t.Errorf("completion:\n%s", stdout)
	}
}

func exportAnnotations(t *testing.T, env *testenv.Env, ns, name string) map[string]string {
	t.Helper()
	client, err := dynamic.NewForConfig(env.Config)
	if err != nil {
		t.Fatal(err)
	}
	x, err := client.Resource(mcsv1beta1.SchemeGroupVersion.WithResource("serviceexports")).Namespace(ns).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return x.GetAnnotations()
}
