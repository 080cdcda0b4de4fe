//go:build conformance

package conformance

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

func conflictSpecs() []spec {
	return []spec{
		{Name: "ports are a union, and a difference is a conflict", Section: "3", Required: true, run: union},
		{Name: "where ports clash the oldest export wins", Section: "3", Required: true, run: clash},
		{Name: "headlessness is the oldest's", Section: "3", Required: true, run: typeConflict},
		{Name: "labels and annotations are the oldest's", Section: "3", run: metadataConflict, setUp: func(f *fixture) {
			f.export.Spec.ExportedLabels, f.export.Spec.ExportedAnnotations = map[string]string{"one": "1"}, map[string]string{"one": "1"}
		}},
		{Name: "session affinity, policy and distribution are the oldest's", Section: "3", run: behaviourConflict},
		{Name: "equal exports have no conflict, and one that is settled goes", Section: "4", run: settled},
		{Name: "the address stays through a conflict", Section: "3", run: stable},
	}
}

func union(f *fixture) {
	other := newService()
	extra := corev1.ServicePort{Name: "stcp", Port: 142, Protocol: corev1.ProtocolSCTP}
	other.Spec.Ports = []corev1.ServicePort{other.Spec.Ports[0], extra}
	f.second(other, newExport())
	f.conflict(mcsv1beta1.ServiceExportReasonPortConflict)
	for _, c := range f.clusters {
		f.imported(c, func(i *mcsv1beta1.ServiceImport) error {
			return same(byName(i.Spec.Ports), importPorts(append(newService().Spec.Ports, extra)))
		})
	}
}

func clash(f *fixture) {
	other := newService()
	other.Spec.Ports = other.Spec.Ports[:1]
	other.Spec.Ports[0].Port++
	f.second(other, newExport())
	f.conflict(mcsv1beta1.ServiceExportReasonPortConflict)
	for _, c := range f.clusters {
		f.imported(c, func(i *mcsv1beta1.ServiceImport) error {
			return same(byName(i.Spec.Ports), importPorts(newService().Spec.Ports))
		})
	}
}

func typeConflict(f *fixture) {
	f.second(headless(newService()), newExport())
	f.conflict(mcsv1beta1.ServiceExportReasonTypeConflict)
	for _, c := range f.clusters {
		f.imported(c, func(i *mcsv1beta1.ServiceImport) error { return same(i.Spec.Type, mcsv1beta1.ClusterSetIP) })
	}
}

func metadataConflict(f *fixture) {
	other := newExport()
	other.Spec.ExportedLabels, other.Spec.ExportedAnnotations = map[string]string{"two": "2"}, map[string]string{"two": "2"}
	f.second(newService(), other)
	f.conflict(mcsv1beta1.ServiceExportReasonLabelsConflict)
	f.conflict(mcsv1beta1.ServiceExportReasonAnnotationsConflict)
	f.imported(f.clusters[0], func(i *mcsv1beta1.ServiceImport) error {
		return same([]string{i.Labels["one"], i.Annotations["one"], i.Labels["two"], i.Annotations["two"]}, []string{"1", "1", "", ""})
	})
}

func behaviourConflict(f *fixture) {
	other := newService()
	other.Spec.SessionAffinity, other.Spec.SessionAffinityConfig = corev1.ServiceAffinityNone, nil
	other.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
	other.Spec.TrafficDistribution = new(corev1.ServiceTrafficDistributionPreferClose)
	f.second(other, newExport())
	for _, reason := range []mcsv1beta1.ServiceExportConditionReason{
		mcsv1beta1.ServiceExportReasonSessionAffinityConflict, mcsv1beta1.ServiceExportReasonInternalTrafficPolicyConflict,
		mcsv1beta1.ServiceExportReasonTrafficDistributionConflict,
	} {
		f.conflict(reason)
	}
	affinity(f)
	f.imported(f.clusters[0], func(i *mcsv1beta1.ServiceImport) error { return same(i.Spec.TrafficDistribution, nil) })
}

func settled(f *fixture) {
	other := newService()
	other.Spec.Ports[0].Name = "other"
	f.second(other, newExport())
	f.conflict(mcsv1beta1.ServiceExportReasonPortConflict)
	var have corev1.Service
	f.must(f.clusters[1].Get(f.Context(), f.key(helloName), &have))
	have.Spec.Ports[0].Name = "tcp"
	f.must(f.clusters[1].Update(f.Context(), &have))
	for _, c := range f.clusters {
		f.condition(c, mcsv1beta1.ServiceExportConditionConflict, metav1.ConditionFalse, string(mcsv1beta1.ServiceExportReasonNoConflicts))
	}
}

func stable(f *fixture) {
	before := f.imported(f.clusters[1], hasAddress)
	f.second(headless(newService()), newExport())
	f.conflict(mcsv1beta1.ServiceExportReasonTypeConflict)
	f.must(same(f.imported(f.clusters[1], hasAddress).Spec.IPs, before.Spec.IPs))
}
