package install_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install"
)

// One range is said three times: to isthmusd, to the redirect and to the policy.
func TestEntryGateway(t *testing.T) {
	objs, err := install.Render(install.Values{Cluster: "east", Extra: map[string]any{
		"entry": map[string]any{"ports": "31000-31999", "from": []any{"10.1.0.0/16", "fd00::/64"}, "replicas": 2}, "syntheticRange": "10.99.0.0/24", "lease": "1m30s", "exportNamespaces": []any{"kube-system"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var entry, control, eastwest appsv1.Deployment
	into(t, objs, "Deployment", api.EntryName, &entry)
	into(t, objs, "Deployment", api.ControlPlaneName, &control)
	into(t, objs, "Deployment", api.EastWestName, &eastwest)
	pod := entry.Spec.Template.Spec
	if got := *entry.Spec.Replicas; got != 2 {
		t.Errorf("%d replicas", got)
	}
	if got := strings.Join(pod.InitContainers[0].Args, " "); got != "intercept --entry-ports=31000-31999" {
		t.Errorf("the redirect is told %s", got)
	}
	if got := strings.Join(pod.Containers[0].Args, " "); got != "gateway --kind=entry --drain-delay=30s --drain-timeout=40s" {
		t.Errorf("the proxy is told %s", got)
	}
	if r := entry.Spec.Strategy.RollingUpdate; r == nil || r.MaxUnavailable.IntValue() != 0 || r.MaxSurge.IntValue() != 1 || *pod.TerminationGracePeriodSeconds != 80 {
		t.Errorf("the rollout is %+v, the pod has %d s to end", entry.Spec.Strategy, *pod.TerminationGracePeriodSeconds)
	}
	told := control.Spec.Template.Spec.Containers[0].Args
	for _, want := range []string{"--entry-ports=31000-31999", "--entry-from=10.1.0.0/16", "--entry-from=fd00::/64", "--synthetic-range=10.99.0.0/24", "--lease=1m30s", "--export-namespaces=kube-system"} {
		if !slices.Contains(told, want) {
			t.Errorf("isthmusd is not told %s: %v", want, told)
		}
	}
	if c := pod.Containers[0].SecurityContext.Capabilities; len(c.Add) > 0 || !slices.Equal(c.Drop, []corev1.Capability{"ALL"}) {
		t.Errorf("the proxy has capabilities: %+v", c)
	}
	if c := pod.InitContainers[0].SecurityContext.Capabilities; !slices.Equal(c.Add, []corev1.Capability{"NET_ADMIN", "NET_RAW"}) || !slices.Equal(c.Drop, []corev1.Capability{"ALL"}) {
		t.Errorf("the redirect's capabilities: %+v", c)
	}
	var policy networkingv1.NetworkPolicy
	into(t, objs, "NetworkPolicy", api.EntryName, &policy)
	rule := policy.Spec.Ingress[0]
	if p := rule.Ports[0]; p.Port.IntValue() != 31000 || *p.EndPort != 31999 || *p.Protocol != corev1.ProtocolTCP {
		t.Errorf("the policy's range is %+v", p)
	}
	if len(rule.From) != 3 || rule.From[1].IPBlock.CIDR != "10.1.0.0/16" || rule.From[2].IPBlock.CIDR != "fd00::/64" {
		t.Errorf("the policy's callers are %+v", rule.From)
	}

	// Traffic for the entry gateway never comes by the east-west gateway's Service.
	var outside corev1.Service
	into(t, objs, "Service", api.EastWestName, &outside)
	if selects(outside.Spec.Selector, entry.Spec.Template.Labels) {
		t.Error("the east-west Service leads to the entry gateway")
	}
	var own corev1.Service
	into(t, objs, "Service", api.EntryName, &own)
	if own.Spec.ClusterIP != corev1.ClusterIPNone || !selects(own.Spec.Selector, entry.Spec.Template.Labels) || selects(own.Spec.Selector, eastwest.Spec.Template.Labels) ||
		own.Labels[api.LabelGateway] != api.GatewayEntry || entry.Spec.Template.Labels[api.LabelGateway] != api.GatewayEntry {
		t.Errorf("the headless service: %+v", own)
	}
}

// What is switched off is not there.
func TestEntryAndGuardOff(t *testing.T) {
	objs, err := install.Render(install.Values{Cluster: "east", Extra: map[string]any{"entry": map[string]any{"enabled": false}, "imports": map[string]any{"guard": false}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objs {
		if o.GetName() == api.EntryName || o.GetKind() == "ValidatingAdmissionPolicy" {
			t.Errorf("%s %s is there", o.GetKind(), o.GetName())
		}
	}
}

func into(t *testing.T, objs []*unstructured.Unstructured, kind, name string, out any) {
	t.Helper()
	o := find(objs, kind, name)
	if o == nil {
		t.Fatalf("no %s %s", kind, name)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, out, true); err != nil {
		t.Fatalf("%s %s: %v", kind, name, err)
	}
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}
