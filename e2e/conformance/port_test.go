//go:build conformance

package conformance

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

func portSpecs() []spec {
	var out []spec
	for _, s := range []spec{
		{Name: "one port name with two numbers leads to the oldest's cluster only", Section: "3", run: samePortName},
		{Name: "each port leads only to the cluster that exposes it", Section: "3", run: ownPorts},
		{Name: "a hundred ports are imported and reached", Section: "3", run: hundredPorts, setUp: func(f *fixture) { f.service.Spec.Ports = manyPorts() }},
	} {
		out = append(out, fromBoth(s)...)
	}
	return append(out, spec{Name: "one number with two port names stays the oldest's port", Section: "3", run: sameNumber})
}

func withPort(name string, number int32) *corev1.Service {
	s := callable()
	s.Spec.Ports = []corev1.ServicePort{{Name: name, Port: number, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(42)}}
	return s
}

func samePortName(f *fixture) {
	f.create(f.clusters[1], deployment(1))
	f.second(withPort("tcp", 4242), newExport())
	f.podAddresses(f.clusters[1], 1)
	f.conflict(mcsv1beta1.ServiceExportReasonPortConflict)
	f.alone(f.clusters, 42, f.podAddresses(f.clusters[0], 1)[0])
}

func ownPorts(f *fixture) {
	f.create(f.clusters[1], deployment(1))
	f.second(withPort("tcp2", 4242), newExport())
	f.conflict(mcsv1beta1.ServiceExportReasonPortConflict)
	f.alone(f.clusters, 42, f.podAddresses(f.clusters[0], 1)[0])
	f.alone(f.clusters, 4242, f.podAddresses(f.clusters[1], 1)[0])
}

func sameNumber(f *fixture) {
	other := newService()
	other.Spec.Ports[0].Name = "other"
	f.second(other, newExport())
	f.conflict(mcsv1beta1.ServiceExportReasonPortConflict)
	for _, c := range f.clusters {
		f.imported(c, func(i *mcsv1beta1.ServiceImport) error {
			return same(byName(i.Spec.Ports), importPorts(newService().Spec.Ports))
		})
	}
}

func manyPorts() []corev1.ServicePort {
	var out []corev1.ServicePort
	for i := range int32(100) {
		out = append(out, corev1.ServicePort{Name: fmt.Sprintf("tcp-%02d", i), Port: 1000 + i, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(42)})
	}
	return out
}

func hundredPorts(f *fixture) {
	for _, c := range f.clusters {
		f.imported(c, func(i *mcsv1beta1.ServiceImport) error { return same(byName(i.Spec.Ports), importPorts(manyPorts())) })
	}
	pod := f.podAddresses(f.clusters[0], 1)[0]
	for _, p := range []int32{1000, 1050, 1099} {
		f.answers(f.callPort("-w 3 ", p), contains("pod ip "+pod))
	}
}
