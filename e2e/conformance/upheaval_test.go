//go:build conformance

package conformance

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

func upheavalSpecs() []spec {
	return slices.Concat(
		fromBoth(spec{Name: "a conflict appears and goes while calls go on", Section: "3", run: quietConflict}),
		fromBoth(spec{Name: "the oldest export leaves, the address stays and the next serves", Section: "3", run: oldestLeaves}),
		[]spec{{Name: "all reasons of a conflict are in one condition", Section: "4", run: manyReasons}},
	)
}

// quietConflict lets an export come that disagrees in everything and has no
// pods, so that every answer must come from the first cluster.
func quietConflict(f *fixture) {
	pod := f.podAddresses(f.clusters[0], 1)[0]
	before := f.imported(f.clusters[1], hasAddress).Spec.IPs
	f.answers(f.call("-w 3 "), contains("pod ip "+pod))
	var ends []func()
	for _, c := range f.clusters {
		ends = append(ends, f.background(c, pod))
	}
	other := headless(callable())
	other.Spec.Ports = []corev1.ServicePort{{Name: "tcp", Port: 43, Protocol: corev1.ProtocolTCP}, {Name: "more", Port: 44, Protocol: corev1.ProtocolTCP}}
	f.second(other, newExport())
	f.conflict(mcsv1beta1.ServiceExportReasonPortConflict)
	f.conflict(mcsv1beta1.ServiceExportReasonTypeConflict)
	f.unexport(f.clusters[1])
	f.condition(f.clusters[0], mcsv1beta1.ServiceExportConditionConflict, metav1.ConditionFalse)
	for _, end := range ends {
		end()
	}
	f.must(same(f.imported(f.clusters[1], hasAddress).Spec.IPs, before))
}

func oldestLeaves(f *fixture) {
	f.create(f.clusters[1], deployment(1))
	f.second(callable(), newExport())
	addresses := map[string][]string{}
	for _, c := range f.clusters {
		addresses[c.name] = f.imported(c, func(i *mcsv1beta1.ServiceImport) error { return same(len(i.Status.Clusters), 2) }).Spec.IPs
	}
	pod := f.podAddresses(f.clusters[1], 1)[0]
	f.unexport(f.clusters[0])
	for _, c := range f.clusters {
		i := f.imported(c, func(i *mcsv1beta1.ServiceImport) error {
			return same(i.Status.Clusters, []mcsv1beta1.ClusterStatus{{Cluster: f.clusters[1].name}})
		})
		f.must(same(i.Spec.IPs, addresses[c.name]))
	}
	f.alone(f.clusters, 42, pod)
}

func manyReasons(f *fixture) {
	other := headless(newService())
	other.Spec.Ports[0].Port++
	other.Spec.SessionAffinity, other.Spec.SessionAffinityConfig = corev1.ServiceAffinityNone, nil
	export := newExport()
	export.Spec.ExportedLabels = map[string]string{"other": "x"}
	f.second(other, export)
	for _, c := range f.clusters {
		f.condition(c, mcsv1beta1.ServiceExportConditionConflict, metav1.ConditionTrue,
			"PortConflict,", "SessionAffinityConflict,", "TypeConflict", "LabelsConflict", "ports differ", "type differ", "1 of 2 clusters disagree", f.clusters[0].name)
	}
}
