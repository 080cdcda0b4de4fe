package coredns

import (
	"context"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/internal/testenv"
)

const plain = ".:53 {\n    errors\n    kubernetes cluster.local in-addr.arpa {\n        pods insecure\n    }\n    reload\n}\n"

func deployment(image string) *appsv1.Deployment {
	labels := map[string]string{"k8s-app": "kube-dns"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "coredns", Namespace: Namespace, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					ServiceAccountName: "dns",
					Containers:         []corev1.Container{{Name: "dns", Image: image}},
					Volumes: []corev1.Volume{
						{Name: "other", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "absent"}}}},
						{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "dns-config"}}}},
					},
				},
			},
		},
	}
}

func TestVersion(t *testing.T) {
	for image, want := range map[string]string{
		"registry.k8s.io/coredns/coredns:v1.12.2":                  "1.12.2",
		"localhost:5000/coredns:1.11.4-eksbuild.2":                 "1.11.4",
		"rancher/mirrored-coredns-coredns:1.12.0":                  "1.12.0",
		"coredns/coredns:1.14.2@sha256:0123":                       "1.14.2",
		"coredns/coredns:latest":                                   "",
		"coredns/coredns:v1.12":                                    "",
		"localhost:5000/coredns":                                   "",
		"registry.example/coredns@sha256:00112233445566778899aabb": "",
	} {
		got, ok := versionOf(deployment(image))
		if ok != (want != "") || ok && got != want {
			t.Errorf("%s: %q %v, want %q", image, got, ok, want)
		}
	}
}

// env is a real API server with a CoreDNS Deployment, whose pods nobody starts.
type env struct {
	*testing.T
	kube kubernetes.Interface
}

func (e env) write(image, corefile string, immutable bool) {
	e.Helper()
	ctx := e.Context()
	_ = e.kube.AppsV1().Deployments(Namespace).Delete(ctx, "coredns", metav1.DeleteOptions{})
	_ = e.kube.CoreV1().ConfigMaps(Namespace).Delete(ctx, "dns-config", metav1.DeleteOptions{})
	if _, err := e.kube.AppsV1().Deployments(Namespace).Create(ctx, deployment(image), metav1.CreateOptions{}); err != nil {
		e.Fatal(err)
	}
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "dns-config"}, Data: map[string]string{"Corefile": corefile, "other": "x"}, Immutable: &immutable}
	if _, err := e.kube.CoreV1().ConfigMaps(Namespace).Create(ctx, m, metav1.CreateOptions{}); err != nil {
		e.Fatal(err)
	}
}

func (e env) config() *corev1.ConfigMap {
	e.Helper()
	m, err := e.kube.CoreV1().ConfigMaps(Namespace).Get(e.Context(), "dns-config", metav1.GetOptions{})
	if err != nil {
		e.Fatal(err)
	}
	return m
}

func (e env) configure(want State, changed bool) Report {
	e.Helper()
	r, err := Configure(e.Context(), e.kube)
	if err != nil || r.State != want || r.Changed != changed || r.OK() == (r.Next != "") {
		e.Errorf("%+v, %v, want %s %v", r, err, want, changed)
	}
	return r
}

// It is configured, twice, keeps what users write, and is restored, twice.
func TestConfigureAndRestore(t *testing.T) {
	server := testenv.Start(t)
	server.EnsureNamespace(t, Namespace)
	e := env{t, server.Client(t)}
	e.configure(Absent, false)
	if _, err := Restore(t.Context(), e.kube); err != nil {
		t.Errorf("restore where nothing is: %v", err)
	}

	e.write("coredns/coredns:v1.12.2", plain, false)
	if r, err := Look(t.Context(), e.kube); err != nil || r.State != Can {
		t.Errorf("%+v, %v", r, err)
	}
	e.configure(Serves, true)
	e.configure(Serves, false)
	m := e.config()
	if m.Annotations[AnnotationOriginal] != plain || !strings.Contains(m.Data["Corefile"], "multicluster clusterset.local\n") || m.Data["other"] != "x" {
		t.Errorf("config %+v", m)
	}
	mayRead(t, e.kube, true)

	m.Data["Corefile"] = strings.ReplaceAll(m.Data["Corefile"], "pods insecure", "pods verified")
	if _, err := e.kube.CoreV1().ConfigMaps(Namespace).Update(t.Context(), m, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	e.configure(Serves, true) // the original takes the user's change in
	for range 2 {
		if _, err := Restore(t.Context(), e.kube); err != nil {
			t.Fatal(err)
		}
	}
	m = e.config()
	if want := strings.ReplaceAll(plain, "pods insecure", "pods verified"); m.Data["Corefile"] != want || len(m.Annotations) != 0 {
		t.Errorf("restored %+v", m)
	}
	mayRead(t, e.kube, false)
	t.Run("left alone", func(t *testing.T) { testLeftAlone(env{t, e.kube}) })
	t.Run("no reload", func(t *testing.T) { testNoReload(env{t, e.kube}) })
}

func mayRead(t *testing.T, kube kubernetes.Interface, want bool) {
	t.Helper()
	b, err := kube.RbacV1().ClusterRoleBindings().Get(t.Context(), RoleName, metav1.GetOptions{})
	switch {
	case !want && !apierrors.IsNotFound(err):
		t.Errorf("the binding is still there: %v", err)
	case want && (err != nil || len(b.Subjects) != 1 || b.Subjects[0] != rbacv1.Subject{Kind: "ServiceAccount", Name: "dns", Namespace: Namespace}):
		t.Errorf("binding %+v, %v", b, err)
	}
}

// What cannot be changed safely is not touched.
func testLeftAlone(e env) {
	for _, tt := range []struct {
		image, corefile string
		immutable       bool
		state           State
	}{
		{"coredns/coredns:v1.12.1", plain, false, TooOld},
		{"coredns/coredns:v1.9.3", plain, false, TooOld},
		{"coredns/coredns@sha256:0123", plain, false, TooOld},
		{"coredns/coredns:v1.14.0", "cluster.local {\nkubernetes cluster.local\n}\n", false, Unusual},
		{"coredns/coredns:v1.14.0", plain, true, Unusual},
	} {
		e.write(tt.image, tt.corefile, tt.immutable)
		e.configure(tt.state, false)
		if m := e.config(); m.Data["Corefile"] != tt.corefile || len(m.Annotations) != 0 {
			e.Errorf("%s: changed: %+v", tt.image, m)
		}
	}
}

// A CoreDNS that does not reload by itself is rolled out anew, both times.
func testNoReload(e env) {
	e.write("coredns/coredns:v1.14.0", strings.ReplaceAll(plain, "    reload\n", ""), false)
	mark := func() string {
		d, err := e.kube.AppsV1().Deployments(Namespace).Get(context.Background(), "coredns", metav1.GetOptions{})
		if err != nil {
			e.Fatal(err)
		}
		return d.Spec.Template.Annotations[AnnotationCorefile]
	}
	e.configure(Serves, true)
	if mark() == "" {
		e.Error("not rolled out")
	}
	if changed, err := Restore(e.Context(), e.kube); err != nil || !changed || mark() != "" {
		e.Errorf("restored %v, %v, mark %q", changed, err, mark())
	}
}
