package release_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/kube"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/install/release"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
)

var values = install.Values{
	Cluster: "east", Network: "lan", Profile: "demo", Strict: true,
	CA:    &install.CA{Chain: []byte("chain\n"), Key: []byte("key\n"), Bundle: []byte("bundle\n")},
	Extra: map[string]any{"entry": map[string]any{"ports": "30000-30999"}},
}

// What isthmus installs and what helm installs of the chart on disk are the same objects, but for who is
// named as their owner where that has a meaning of its own: the authority is no part of isthmus' release.
func TestSameAsHelm(t *testing.T) {
	ours, theirs := testenv.Start(t), testenv.Start(t)
	apply(t, ours.Config, values)
	helmInstall(t, theirs, values)
	a, b := objects(t, ours.Config), objects(t, theirs.Config)
	if diff := cmp.Diff(b, a); diff != "" {
		t.Errorf("helm's (-) and ours (+):\n%s", diff)
	}
	if len(a) < 25 {
		t.Errorf("%d objects were compared", len(a))
	}
}

// One history, whoever writes the next revision: isthmus, helm, isthmus; and then helm goes back. Values stay, and so does
// the authority.
func TestOneHistory(t *testing.T) {
	env := testenv.Start(t)
	apply(t, env.Config, values)
	helmUpgrade(t, env, map[string]any{"entry": map[string]any{"replicas": 3}})
	if got := replicas(t, env.Config); got != 3 {
		t.Errorf("helm upgraded to %d replicas", got)
	}
	next := values
	next.Extra = map[string]any{"lease": "1m"}
	apply(t, env.Config, next)
	if got := replicas(t, env.Config); got != 3 {
		t.Errorf("isthmus has forgotten helm's value: %d replicas", got)
	}
	roll := action.NewRollback(helm(t, env))
	roll.Version, roll.ServerSideApply, roll.WaitStrategy = 1, "auto", kube.HookOnlyStrategy
	if err := roll.Run(install.ReleaseName("")); err != nil {
		t.Fatal(err)
	}
	if got := replicas(t, env.Config); got != 1 {
		t.Errorf("after the rollback %d replicas", got)
	}
	revisions := history(t, env)
	if want := "1 superseded, 2 superseded, 3 superseded, 4 deployed"; revisions != want {
		t.Errorf("history: %s, want %s", revisions, want)
	}
	reset := values
	reset.Profile = ""
	if _, err := release.Apply(t.Context(), release.Options{Config: env.Config, Values: reset, Reset: true, NoWait: true}); err != nil {
		t.Fatal(err)
	}
	kept, err := release.Values(t.Context(), env.Config, "")
	if err != nil || kept["profile"] != nil || kept["ca"] != nil || kept["cluster"] != "east" {
		t.Errorf("values: %v, %v", kept, err)
	}
	secret, err := kubernetes.NewForConfigOrDie(env.Config).CoreV1().Secrets(install.Namespace).Get(t.Context(), "isthmus-ca", metav1.GetOptions{})
	if err != nil || string(secret.Data["ca.key"]) != "key\n" {
		t.Errorf("the authority: %v, %v", secret, err)
	}
}

// helm first, isthmus second: no error about owners, and the Secret that helm made of its values stays when isthmus
// leaves the key out of the release.
func TestHelmFirst(t *testing.T) {
	env := testenv.Start(t)
	helmInstall(t, env, values)
	next := values
	next.CA = &install.CA{Chain: []byte("chain 2\n"), Key: []byte("key 2\n"), Bundle: []byte("bundle\n")}
	apply(t, env.Config, next)
	helmUpgrade(t, env, map[string]any{"entry": map[string]any{"replicas": 2}})
	secret, err := kubernetes.NewForConfigOrDie(env.Config).CoreV1().Secrets(install.Namespace).Get(t.Context(), "isthmus-ca", metav1.GetOptions{})
	if err != nil || string(secret.Data["ca.key"]) != "key 2\n" {
		t.Errorf("the authority: %v", err)
	}
}

// An installation of a version that knew no releases is taken over, and what the chart says no more goes.
func TestTakeOver(t *testing.T) {
	env := testenv.Start(t)
	old, err := install.Render(values)
	if err != nil {
		t.Fatal(err)
	}
	for _, obj := range old {
		obj.SetLabels(map[string]string{"app.kubernetes.io/managed-by": "isthmus", "app.kubernetes.io/part-of": "isthmus", "by": "an-old-version"})
	}
	if err := install.ApplyAs(t.Context(), env.Config, install.FieldOwner, old, nil); err != nil {
		t.Fatal(err)
	}
	apply(t, env.Config, values)
	for name, obj := range objects(t, env.Config) {
		if strings.Contains(obj, "an-old-version") && !strings.HasPrefix(name, "CustomResourceDefinition") {
			t.Errorf("%s: %s", name, obj)
		}
	}
	helmUpgrade(t, env, map[string]any{"entry": map[string]any{"replicas": 2}})
}

// While somebody else changes the release, it is left alone.
func TestPending(t *testing.T) {
	env := testenv.Start(t)
	apply(t, env.Config, values)
	config := helm(t, env)
	last, err := config.Releases.Last(install.ReleaseName(""))
	if err != nil {
		t.Fatal(err)
	}
	last.(*releasev1.Release).Info.Status = "pending-upgrade"
	if err := config.Releases.Update(last); err != nil {
		t.Fatal(err)
	}
	_, err = release.Apply(t.Context(), release.Options{Config: env.Config, Values: values, NoWait: true})
	if err == nil || !strings.Contains(err.Error(), "pending-upgrade") {
		t.Errorf("error %v", err)
	}
}

func apply(t *testing.T, config *rest.Config, v install.Values) {
	t.Helper()
	if err := install.ApplyCRDs(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if _, err := release.Apply(t.Context(), release.Options{Config: config, Values: v, NoWait: true}); err != nil {
		t.Fatal(err)
	}
}

// helm returns what the program helm works with.
func helm(t *testing.T, env *testenv.Env) *action.Configuration {
	t.Helper()
	flags := genericclioptions.NewConfigFlags(false)
	namespace := install.Namespace
	flags.Namespace = &namespace
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, env.Kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	flags.KubeConfig = &kubeconfig
	out := action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler))
	kube.ManagedFieldsManager = "helm" // as its main does
	if err := out.Init(flags, install.Namespace, ""); err != nil {
		t.Fatal(err)
	}
	return out
}

// helmInstall is helm install isthmus CHART -n isthmus-system --create-namespace -f VALUES.
func helmInstall(t *testing.T, env *testenv.Env, v install.Values) {
	t.Helper()
	chart, given := onDisk(t, v)
	a := action.NewInstall(helm(t, env))
	a.ReleaseName, a.Namespace, a.CreateNamespace, a.WaitStrategy, a.Timeout = install.ReleaseName(""), install.Namespace, true, kube.HookOnlyStrategy, time.Minute
	loaded, err := loader.Load(chart)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.RunWithContext(t.Context(), loaded, given); err != nil {
		t.Fatal(err)
	}
}

// helmUpgrade is helm upgrade isthmus CHART -n isthmus-system --reuse-values --set ...
func helmUpgrade(t *testing.T, env *testenv.Env, given map[string]any) {
	t.Helper()
	chart, _ := onDisk(t, values)
	a := action.NewUpgrade(helm(t, env))
	a.Namespace, a.ReuseValues, a.ServerSideApply, a.WaitStrategy, a.Timeout = install.Namespace, true, "auto", kube.HookOnlyStrategy, time.Minute
	loaded, err := loader.Load(chart)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.RunWithContext(t.Context(), install.ReleaseName(""), loaded, given); err != nil {
		t.Fatal(err)
	}
}

// onDisk writes the chart to a folder, and values to a file that it reads again.
func onDisk(t *testing.T, v install.Values) (chart string, given map[string]any) {
	t.Helper()
	dir := t.TempDir()
	files, err := install.ChartFiles()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data, err := yaml.Marshal(v.Chart())
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, &given); err != nil {
		t.Fatal(err)
	}
	return dir, given
}

// objects reads every object of the chart, without what each server gives of its own.
func objects(t *testing.T, config *rest.Config) map[string]string {
	t.Helper()
	rendered, err := install.Render(values)
	if err != nil {
		t.Fatal(err)
	}
	client := dynamic.NewForConfigOrDie(config)
	out := map[string]string{}
	for _, obj := range rendered {
		found := get(t.Context(), t, client, obj)
		for _, field := range []string{"uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"} {
			unstructured.RemoveNestedField(found.Object, "metadata", field)
		}
		unstructured.RemoveNestedField(found.Object, "status")
		unstructured.RemoveNestedField(found.Object, "spec", "clusterIP")
		unstructured.RemoveNestedField(found.Object, "spec", "clusterIPs")
		unstructured.RemoveNestedField(found.Object, "spec", "healthCheckNodePort")
		ports, _, _ := unstructured.NestedSlice(found.Object, "spec", "ports")
		for _, p := range ports {
			delete(p.(map[string]any), "nodePort")
		}
		if len(ports) > 0 {
			if err := unstructured.SetNestedSlice(found.Object, ports, "spec", "ports"); err != nil {
				t.Fatal(err)
			}
		}
		data, err := yaml.Marshal(found.Object)
		if err != nil {
			t.Fatal(err)
		}
		out[obj.GetKind()+" "+obj.GetName()] = string(data)
	}
	return out
}

func get(ctx context.Context, t *testing.T, client dynamic.Interface, obj *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	plural := map[string]string{
		"ClusterProperty": "clusterproperties", "NetworkPolicy": "networkpolicies", "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
	}[obj.GetKind()]
	if plural == "" {
		plural = strings.ToLower(obj.GetKind()) + "s"
	}
	gvk := obj.GroupVersionKind()
	r := client.Resource(schema.GroupVersionResource{Group: gvk.Group, Version: gvk.Version, Resource: plural})
	found, err := r.Namespace(obj.GetNamespace()).Get(ctx, obj.GetName(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func replicas(t *testing.T, config *rest.Config) int {
	t.Helper()
	d, err := kubernetes.NewForConfigOrDie(config).AppsV1().Deployments(install.Namespace).Get(t.Context(), "isthmus-entry", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return int(*d.Spec.Replicas)
}

func history(t *testing.T, env *testenv.Env) string {
	t.Helper()
	found, err := action.NewHistory(helm(t, env)).Run(install.ReleaseName(""))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range found {
		v1 := r.(*releasev1.Release)
		out = append(out, fmt.Sprintf("%d %s", v1.Version, v1.Info.Status))
	}
	return strings.Join(out, ", ")
}
