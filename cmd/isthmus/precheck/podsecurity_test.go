package precheck

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
)

// On a real API server: those that are labelled for sidecars and refuse them are
// found, with the command that helps, and no others.
func TestPodSecurity(t *testing.T) {
	env := testenv.Start(t)
	c, err := cluster.New("east", env.Config)
	if err != nil {
		t.Fatal(err)
	}
	if got := PodSecurity(t.Context(), c); len(got) != 1 || got[0].State != OK || got[0].Next != "" {
		t.Errorf("none: %+v", got)
	}
	const enforce = "pod-security.kubernetes.io/enforce"
	for name, labels := range map[string]map[string]string{
		"refuses-a": {"istio-injection": "enabled", enforce: "baseline"},
		"refuses-b": {"isthmus.dev/inject": "true", enforce: "restricted"},
		"refuses-c": {"istio.io/rev": "canary", enforce: "restricted"},
		"takes":     {"istio-injection": "enabled", enforce: "privileged"},
		"warns":     {"istio-injection": "enabled", "pod-security.kubernetes.io/warn": "restricted"},
		"no-mesh":   {enforce: "restricted"},
		"opted-out": {"istio-injection": "disabled", "isthmus.dev/inject": "true", enforce: "restricted"},
	} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
		if _, err := c.Kube.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	got := PodSecurity(t.Context(), c)
	if len(got) != 3 {
		t.Fatalf("%+v", got)
	}
	for i, name := range []string{"refuses-a", "refuses-b", "refuses-c"} {
		if f := got[i]; f.State != Warn || !strings.Contains(f.Message, name) || f.Next != "kubectl --context east label namespace "+name+" "+enforce+"=privileged --overwrite" {
			t.Errorf("%+v", f)
		}
	}
}
