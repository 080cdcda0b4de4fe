package webhook_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/api"
)

// Which pods get a sidecar, by the labels of namespace and pod and the pod's
// annotations: "istio-injection=enabled" stands for a label, "@name=value" for
// an annotation. The first part is what Istio does with its default revision
// alone (its webhooks' selectors, then its injector's own look at the pod); the
// second is ours, which says the same by our names. Revisions are the chart's.
var decisions = []struct {
	namespace, pod string
	want           bool
}{
	{"", "", false},
	{"", "sidecar.istio.io/inject=true", true},
	{"", "sidecar.istio.io/inject=false", false},
	{"", "sidecar.istio.io/inject=yes", false},
	{"", "@sidecar.istio.io/inject=true", false},
	{"", "sidecar.istio.io/inject=true @sidecar.istio.io/inject=false", true},
	{"", "sidecar.istio.io/inject=true istio.io/rev=canary", false},
	{"istio-injection=enabled", "", true},
	{"istio-injection=enabled", "sidecar.istio.io/inject=true", true},
	{"istio-injection=enabled", "sidecar.istio.io/inject=false", false},
	{"istio-injection=enabled", "sidecar.istio.io/inject=no", true},
	{"istio-injection=enabled", "sidecar.istio.io/inject=", true},
	{"istio-injection=enabled", "@sidecar.istio.io/inject=false", false},
	{"istio-injection=enabled", "@sidecar.istio.io/inject=true", true},
	{"istio-injection=enabled", "sidecar.istio.io/inject=true @sidecar.istio.io/inject=false", true},
	{"istio-injection=enabled", "sidecar.istio.io/inject=false @sidecar.istio.io/inject=true", false},
	{"istio-injection=enabled", "istio.io/rev=canary", true},
	{"istio-injection=enabled istio.io/rev=canary", "", true},
	{"istio-injection=disabled", "", false},
	{"istio-injection=disabled", "sidecar.istio.io/inject=true", false},
	{"istio-injection=other", "", false},
	{"istio-injection=other", "sidecar.istio.io/inject=true", false},
	{"istio.io/rev=canary", "", false},
	{"istio.io/rev=canary", "sidecar.istio.io/inject=true", false},

	{"", "isthmus.dev/inject=true", true},
	{"", "isthmus.dev/inject=false", false},
	{"", "@isthmus.dev/inject=true", false},
	{"", "isthmus.dev/inject=true sidecar.istio.io/inject=true", true},
	{"", "isthmus.dev/inject=true sidecar.istio.io/inject=false", false},
	{"", "isthmus.dev/inject=false sidecar.istio.io/inject=true", false},
	{"isthmus.dev/inject=true", "", true},
	{"isthmus.dev/inject=true", "isthmus.dev/inject=false", false},
	{"isthmus.dev/inject=true", "sidecar.istio.io/inject=false", false},
	{"isthmus.dev/inject=true", "@isthmus.dev/inject=false", false},
	{"isthmus.dev/inject=true istio-injection=enabled", "", true},
	{"isthmus.dev/inject=true istio-injection=disabled", "", false},
	{"isthmus.dev/inject=false istio-injection=enabled", "", false},
	{"isthmus.dev/inject=false", "", false},
	{"isthmus.dev/inject=false", "sidecar.istio.io/inject=true", false},
	{"isthmus.dev/inject=false", "isthmus.dev/inject=true", false},
	{"istio-injection=enabled", "isthmus.dev/inject=false", false},
	{"istio-injection=disabled", "isthmus.dev/inject=true", false},
}

// parse returns the labels and annotations that text stands for.
func parse(text string) (labels, annotations map[string]string) {
	labels, annotations = map[string]string{}, map[string]string{}
	for part := range strings.FieldsSeq(text) {
		name, value, _ := strings.Cut(part, "=")
		if name, ok := strings.CutPrefix(name, "@"); ok {
			annotations[name] = value
		} else {
			labels[name] = value
		}
	}
	return labels, annotations
}

// The API server's selectors and the webhook together decide as the table says.
func TestDecisions(t *testing.T) {
	client := kubernetes.NewForConfigOrDie(env.Config)
	installed(t, client)
	namespaces := map[string]string{}
	for _, d := range decisions {
		ns, ok := namespaces[d.namespace]
		if !ok {
			labels, _ := parse(d.namespace)
			ns = labelled(t, client, labels)
			namespaces[d.namespace] = ns
		}
		p := plainPod("p-")
		p.Labels, p.Annotations = parse(d.pod)
		made, err := client.CoreV1().Pods(ns).Create(t.Context(), p, metav1.CreateOptions{})
		if err != nil {
			t.Errorf("namespace %q, pod %q: %v", d.namespace, d.pod, err)
			continue
		}
		if got := made.Annotations[api.AnnotationInjected] != ""; got != d.want {
			t.Errorf("namespace %q, pod %q: injected is %t, want %t", d.namespace, d.pod, got, d.want)
		}
	}
}

// Namespaces of the system get nothing, whatever is asked.
func TestSystemNamespaces(t *testing.T) {
	client := kubernetes.NewForConfigOrDie(env.Config)
	installed(t, client)
	for _, ns := range []string{"kube-system", "kube-public", "kube-node-lease", "local-path-storage", api.SystemNamespace} {
		env.EnsureNamespace(t, ns)
		ensureAccount(t, client, ns)
		p := plainPod("p-")
		p.Labels = map[string]string{"sidecar.istio.io/inject": "true"}
		made, err := client.CoreV1().Pods(ns).Create(t.Context(), p, metav1.CreateOptions{})
		if err != nil || made.Annotations[api.AnnotationInjected] != "" {
			t.Errorf("%s: injected, %v", ns, err)
		}
	}
}

// collector keeps the warnings that the API server sends.
type collector struct{ texts []string }

func (c *collector) HandleWarningHeader(_ int, _, text string) { c.texts = append(c.texts, text) }

// warned returns a client and the warnings that it gets.
func warned(t *testing.T) (*kubernetes.Clientset, *collector) {
	t.Helper()
	var c collector
	cfg := *env.Config
	cfg.WarningHandler = &c
	return kubernetes.NewForConfigOrDie(&cfg), &c
}

// Where Pod Security refuses the sidecar, the user is told by which label, and
// which one would let it start; what the API server itself says names our container.
func TestPodSecurity(t *testing.T) {
	client, warnings := warned(t)
	installed(t, client)
	for _, level := range []string{"baseline", "restricted", "privileged"} {
		ns := labelled(t, client, map[string]string{"istio-injection": "enabled", "pod-security.kubernetes.io/enforce": level})
		warning := fmt.Sprintf("Pod Security %q of the namespace refuses pods with a sidecar (NET_ADMIN): kubectl label namespace %s pod-security.kubernetes.io/enforce=privileged --overwrite", level, ns)
		var err error
		eventually(t, "the webhook knows the namespace "+level, func() bool {
			warnings.texts = nil
			_, err = client.CoreV1().Pods(ns).Create(t.Context(), hardenedPod(), metav1.CreateOptions{})
			return level == "privileged" || strings.Contains(strings.Join(warnings.texts, "\n"), warning)
		})
		if level == "privileged" {
			if err != nil || len(warnings.texts) > 0 {
				t.Errorf("%s: %v, warnings %q", level, err, warnings.texts)
			}
			continue
		}
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "isthmus-init") || !strings.Contains(err.Error(), "NET_ADMIN") {
			t.Errorf("%s: the refusal is %v", level, err)
		}
		t.Logf("%s: warning %q\nrefusal %v", level, warnings.texts, err)

		// The command of the warning is the remedy.
		patch := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}`)
		if _, err := client.CoreV1().Namespaces().Patch(t.Context(), ns, "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the pod is taken after that", func() bool {
			warnings.texts = nil
			_, err := client.CoreV1().Pods(ns).Create(t.Context(), hardenedPod(), metav1.CreateOptions{})
			return err == nil && len(warnings.texts) == 0
		})
	}
}

// hardenedPod is one that the level "restricted" lets start.
func hardenedPod() *corev1.Pod {
	p := plainPod("hard-")
	p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
	p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	return p
}

// A pod of the host's network is left alone, and its author is told.
func TestHostNetworkIsTold(t *testing.T) {
	client, warnings := warned(t)
	installed(t, client)
	ns := labelled(t, client, map[string]string{"istio-injection": "enabled"})
	p := plainPod("host-")
	p.Spec.HostNetwork = true
	warnings.texts = nil
	made, err := client.CoreV1().Pods(ns).Create(t.Context(), p, metav1.CreateOptions{})
	if err != nil || len(made.Spec.InitContainers) > 0 {
		t.Fatalf("injected, %v", err)
	}
	if told := strings.Join(warnings.texts, "\n"); !strings.Contains(told, "the pod gets no sidecar: the pod uses the host's network") {
		t.Errorf("warnings %q", told)
	}
}
