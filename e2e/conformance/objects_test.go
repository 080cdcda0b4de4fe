//go:build conformance

package conformance

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
)

const helloName = "hello"

func helloLabels() map[string]string { return map[string]string{"app": helloName} }

// newService has one number for two protocols, and an affinity that is not the default.
func newService() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: helloName, Labels: map[string]string{"of-service": "x"}, Annotations: map[string]string{"of-service": "x"}},
		Spec: corev1.ServiceSpec{
			Selector: helloLabels(),
			Ports: []corev1.ServicePort{
				{Name: "tcp", Port: 42, Protocol: corev1.ProtocolTCP, AppProtocol: new("kubernetes.io/h2c")},
				{Name: "udp", Port: 42, Protocol: corev1.ProtocolUDP},
			},
			SessionAffinity:       corev1.ServiceAffinityClientIP,
			SessionAffinityConfig: &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(int32(10))}},
		},
	}
}

func headless(s *corev1.Service) *corev1.Service {
	s.Spec.ClusterIP = corev1.ClusterIPNone
	return s
}

func newExport() *mcsv1beta1.ServiceExport {
	return &mcsv1beta1.ServiceExport{ObjectMeta: metav1.ObjectMeta{
		Name: helloName, Labels: map[string]string{"of-export": "x"}, Annotations: map[string]string{"of-export": "x"},
	}}
}

func podTemplate() corev1.PodTemplateSpec {
	serve := func(protocol string) corev1.Container {
		return corev1.Container{
			Name: "hello-" + protocol, Image: "alpine/socat:1.7.4.4",
			Args: []string{"-v", "-v", protocol + "-LISTEN:42,crlf,reuseaddr,fork", "SYSTEM:echo pod ip $(MY_POD_IP)"},
			Env:  []corev1.EnvVar{{Name: "MY_POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}}},
		}
	}
	tcp, udp := serve("TCP"), serve("UDP")
	tcp.Name, udp.Name = "hello-tcp", "hello-udp"
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: helloLabels()}, Spec: corev1.PodSpec{
		Containers: []corev1.Container{tcp, udp}, TerminationGracePeriodSeconds: new(int64(1)),
	}}
}

func deployment(replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: helloName}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: helloLabels()}, Template: podTemplate(),
	}}
}

func statefulSet(replicas int32) *appsv1.StatefulSet {
	return &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: helloName}, Spec: appsv1.StatefulSetSpec{
		Replicas: &replicas, ServiceName: helloName, Selector: &metav1.LabelSelector{MatchLabels: helloLabels()}, Template: podTemplate(),
		PodManagementPolicy: appsv1.ParallelPodManagement,
	}}
}

// Pods that ask. The plain one has no sidecar wherever it runs.
const (
	plainCaller  = "request"
	meshedCaller = "request-meshed"
	callerBox    = "request"
)

func callerPod(name string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}}, Spec: corev1.PodSpec{
		TerminationGracePeriodSeconds: new(int64(0)),
		Containers:                    []corev1.Container{{Name: callerBox, Image: "busybox", Args: []string{"/bin/sh", "-ec", "while :; do echo '.'; sleep 5 ; done"}}},
	}}
	if name == plainCaller {
		p.Labels[api.LabelIstioPod] = "false"
	}
	return p
}

// importPorts are the ports of an import of a service with ports, by name.
func importPorts(ports []corev1.ServicePort) []mcsv1beta1.ServicePort {
	var out []mcsv1beta1.ServicePort
	for _, p := range ports {
		out = append(out, mcsv1beta1.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port, AppProtocol: p.AppProtocol})
	}
	return byName(out)
}

func byName(ports []mcsv1beta1.ServicePort) []mcsv1beta1.ServicePort {
	return slices.SortedFunc(slices.Values(ports), func(a, b mcsv1beta1.ServicePort) int { return cmp.Compare(a.Name, b.Name) })
}

func text(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(data)
}
