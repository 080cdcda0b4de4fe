package install_test

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
)

func imports(version string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "multicluster.x-k8s.io", Version: version, Resource: "serviceimports"}
}

// Only isthmusd writes imports, in either version, whatever rights others have;
// all may go: by a user, with its namespace, and by the garbage collector, which
// takes a finalizer off first.
func TestImportGuard(t *testing.T) {
	env := testenv.Start(t, testenv.WithControllers())
	objs, err := install.Render(install.Values{Cluster: "east"})
	if err != nil {
		t.Fatal(err)
	}
	var quick []*unstructured.Unstructured
	for _, o := range objs {
		if o.GetKind() != "Deployment" {
			quick = append(quick, o)
		}
	}
	if err := install.Apply(t.Context(), env.Config, quick, nil); err != nil {
		t.Fatal(err)
	}
	ns := env.Namespace(t)
	kube, admin := kubernetes.NewForConfigOrDie(env.Config), dynamic.NewForConfigOrDie(env.Config)
	isthmusd := dynamic.NewForConfigOrDie(env.AccountConfig(t, api.SystemNamespace, api.ControlPlaneName))
	user := dynamic.NewForConfigOrDie(env.AccountConfig(t, ns, "user"))
	grantAll(t, kube, ns, "user")

	until(t, "the policy is in force", func() bool {
		_, err := admin.Resource(imports("v1beta1")).Namespace(ns).Create(t.Context(), newImport("v1beta1", "probe"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return apierrors.IsForbidden(err)
	})
	for who, client := range map[string]dynamic.Interface{"a cluster's admin": admin, "a user": user} {
		for _, version := range []string{"v1alpha1", "v1beta1"} {
			_, err := client.Resource(imports(version)).Namespace(ns).Create(t.Context(), newImport(version, "mine"), metav1.CreateOptions{})
			refused(t, who+" creates in "+version, err)
		}
	}
	for _, name := range []string{"reviews", "ratings", "details"} {
		if _, err := isthmusd.Resource(imports("v1beta1")).Namespace(ns).Apply(t.Context(), name, newImport("v1beta1", name), metav1.ApplyOptions{FieldManager: "isthmusd"}); err != nil {
			t.Fatalf("isthmusd makes %s: %v", name, err)
		}
	}
	mine := user.Resource(imports("v1beta1")).Namespace(ns)
	_, err = mine.Patch(t.Context(), "reviews", types.MergePatchType, []byte(`{"spec":{"ports":[{"port":1}]}}`), metav1.PatchOptions{})
	refused(t, "a user changes the spec", err)
	_, err = user.Resource(imports("v1alpha1")).Namespace(ns).Patch(t.Context(), "reviews", types.MergePatchType, []byte(`{"spec":{"ips":["10.0.0.1"]}}`), metav1.PatchOptions{})
	refused(t, "a user changes the spec in v1alpha1", err)
	_, err = mine.Patch(t.Context(), "reviews", types.MergePatchType, []byte(`{"status":{"clusters":[{"cluster":"elsewhere"}]}}`), metav1.PatchOptions{}, "status")
	refused(t, "a user changes the status", err)
	if _, err := mine.Patch(t.Context(), "reviews", types.MergePatchType, []byte(`{"metadata":{"annotations":{"note":"seen"}}}`), metav1.PatchOptions{}); err != nil {
		t.Errorf("a user annotates: %v", err)
	}
	status := []byte(`{"apiVersion":"multicluster.x-k8s.io/v1beta1","kind":"ServiceImport","metadata":{"name":"reviews"},"status":{"clusters":[{"cluster":"west"}]}}`)
	if _, err := isthmusd.Resource(imports("v1beta1")).Namespace(ns).Patch(t.Context(), "reviews", types.ApplyPatchType, status, metav1.PatchOptions{FieldManager: "isthmusd", Force: new(true)}, "status"); err != nil {
		t.Errorf("isthmusd writes the status: %v", err)
	}

	if err := mine.Delete(t.Context(), "reviews", metav1.DeleteOptions{}); err != nil {
		t.Errorf("a user deletes: %v", err)
	}
	owned(t, env, ns, "ratings")
	if err := mine.Delete(t.Context(), "ratings", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationForeground)}); err != nil {
		t.Errorf("a user deletes in the foreground: %v", err)
	}
	gone := func(name string) func() bool {
		return func() bool {
			_, err := mine.Get(t.Context(), name, metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		}
	}
	until(t, "the garbage collector takes its finalizer off", gone("ratings"))
	if err := kube.CoreV1().Namespaces().Delete(t.Context(), ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "the namespace is gone", func() bool {
		_, err := kube.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

// refused checks that err says who writes imports and what to write instead.
func refused(t *testing.T, what string, err error) {
	t.Helper()
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "isthmusd alone") || !strings.Contains(err.Error(), "ServiceExport") {
		t.Errorf("%s: %v", what, err)
	}
}

func newImport(version, name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "multicluster.x-k8s.io/" + version, "kind": "ServiceImport", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"type": "ClusterSetIP", "ports": []any{map[string]any{"port": int64(80), "protocol": "TCP"}}},
	}}
}

// grantAll makes account all-powerful.
func grantAll(t *testing.T, kube kubernetes.Interface, ns, account string) {
	t.Helper()
	_, err := kube.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "all-"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: ns, Name: account}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// owned makes a ConfigMap that belongs to the import and blocks its deletion.
func owned(t *testing.T, env *testenv.Env, ns, name string) {
	t.Helper()
	found, err := dynamic.NewForConfigOrDie(env.Config).Resource(imports("v1beta1")).Namespace(ns).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	owner := metav1.OwnerReference{APIVersion: found.GetAPIVersion(), Kind: found.GetKind(), Name: name, UID: found.GetUID(), BlockOwnerDeletion: new(true)}
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{owner}}}
	if _, err := kubernetes.NewForConfigOrDie(env.Config).CoreV1().ConfigMaps(ns).Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within a minute: %s", what)
		case <-tick.C:
		}
	}
}
