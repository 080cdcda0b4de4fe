package install_test

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
)

var crds = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// Everything that the chart renders is taken by a real API server, twice, and
// removed again; somebody else's definition is left as it was.
func TestApplyAndUninstall(t *testing.T) {
	env := testenv.Start(t, testenv.WithControllers())
	kube, dyn := kubernetes.NewForConfigOrDie(env.Config), dynamic.NewForConfigOrDie(env.Config)
	theirs := peerAuthentication(t)
	if _, err := dyn.Resource(crds).Create(t.Context(), theirs, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	objs, err := install.Render(install.Values{
		Cluster: "east", Strict: true, CA: &install.CA{Chain: []byte("chain"), Key: []byte("key"), Bundle: []byte("bundle")},
	})
	if err != nil {
		t.Fatal(err)
	}
	var rest []*unstructured.Unstructured
	for _, o := range objs {
		if o.GetKind() != "Deployment" { // no nodes here: they never become available
			rest = append(rest, o)
		}
	}
	for range 2 {
		if err := install.Apply(t.Context(), env.Config, rest, nil); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := install.Apply(ctx, env.Config, objs, nil); err == nil || !strings.Contains(err.Error(), "wait for Deployment isthmus-system/isthmus") {
		t.Errorf("without nodes: %v", err)
	}
	found, err := dyn.Resource(crds).Get(t.Context(), theirs.GetName(), metav1.GetOptions{})
	if err != nil || found.GetAnnotations()["by"] != "somebody else" || found.GetAnnotations()[install.AnnotationInstall] != "" {
		t.Errorf("somebody else's definition: %v, %v", found.GetAnnotations(), err)
	}

	left := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "isthmus-ca-root", Labels: map[string]string{"app.kubernetes.io/managed-by": "isthmus"}}}
	if _, err := kube.CoreV1().ConfigMaps("default").Create(t.Context(), left, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := install.Uninstall(t.Context(), env.Config, install.UninstallOptions{Purge: true}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := kube.CoreV1().ConfigMaps("default").Get(t.Context(), left.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("bundle in a user's namespace: %v", err)
	}
	if _, err := kube.CoreV1().Namespaces().Get(t.Context(), install.Namespace, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("system namespace: %v", err)
	}
	for _, plural := range []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings"} {
		r := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: plural}
		if _, err := dyn.Resource(r).Get(t.Context(), "isthmus-imports", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("%s left: %v", plural, err)
		}
	}
	list, err := dyn.Resource(crds).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].GetName() != theirs.GetName() {
		t.Errorf("definitions left: %d, %v", len(list.Items), err)
	}
}

// An MCS definition of somebody else that lacks what we need is refused before
// anything is changed.
func TestOldMCS(t *testing.T) {
	env := testenv.Start(t)
	dyn := dynamic.NewForConfigOrDie(env.Config)
	old := definition(t, "serviceimports.multicluster.x-k8s.io")
	versions, _, _ := unstructured.NestedSlice(old.Object, "spec", "versions")
	for _, v := range versions {
		v.(map[string]any)["served"] = v.(map[string]any)["name"] != "v1beta1"
	}
	if err := unstructured.SetNestedSlice(old.Object, versions, "spec", "versions"); err != nil {
		t.Fatal(err)
	}
	if _, err := dyn.Resource(crds).Create(t.Context(), old, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	err := install.ApplyCRDs(t.Context(), env.Config)
	if err == nil || !strings.Contains(err.Error(), "v1beta1") {
		t.Errorf("error %v", err)
	}
}

func definition(t *testing.T, name string) *unstructured.Unstructured {
	t.Helper()
	objs, err := install.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	if o := find(objs, "CustomResourceDefinition", name); o != nil {
		o.SetLabels(nil) // as somebody else has it
		return o
	}
	t.Fatalf("no definition %s", name)
	return nil
}

func peerAuthentication(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	out := definition(t, "peerauthentications.security.istio.io").DeepCopy()
	out.SetAnnotations(map[string]string{"by": "somebody else"})
	return out
}
