package meshstatus

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
)

// A port counts once for all sources of its import, an address for each pod.
func TestEntryCount(t *testing.T) {
	slice := func(name, ports string, headless bool, addresses ...string) discoveryv1.EndpointSlice {
		s := discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Labels: map[string]string{mcsv1beta1.LabelServiceName: name}, Annotations: map[string]string{api.AnnotationEntryPorts: ports},
		}}
		if headless {
			s.Labels[corev1.IsHeadlessService] = ""
		}
		s.Endpoints = []discoveryv1.Endpoint{{Addresses: addresses}}
		return s
	}
	var e Entry
	e.readRanges(&appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Args: []string{"--cluster=east", "--entry-ports=20000-20009", "--synthetic-range=240.241.0.0/24"},
	}}}}}})
	e.count([]discoveryv1.EndpointSlice{
		slice("a", "80=20001,81=20002", false, "10.1.1.1"), slice("a", "80=20001", false), slice("b", "80=20005", false), slice("c", "nonsense", false),
		slice("db", "", true, "240.241.0.3"), slice("db", "", true, "240.241.0.4", "10.1.1.9"),
	})
	e.Ports.Resting = lines("20003 1 x\n20004 1\n\n")
	if e.Ports != (Use{"20000-20009", 10, 3, 2}) || e.Ports.Free() != 5 {
		t.Errorf("ports %+v", e.Ports)
	}
	if e.Synthetic != (Use{"240.241.0.0/24", 254, 2, 0}) {
		t.Errorf("synthetic %+v", e.Synthetic)
	}
	for _, text := range []string{"", "1", "9-1", "1-99999", "x-y"} {
		if portsIn(text) != 0 {
			t.Errorf("%q holds ports", text)
		}
	}
}
