//go:build conformance

package conformance

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

func exportSpecs() []spec {
	return []spec{
		{Name: "an ExternalName service is refused", Section: "2", Required: true, run: externalName, setUp: func(f *fixture) {
			f.service.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"}
		}},
		{Name: "an export without a service says so until there is one", Section: "4", run: noService, setUp: func(f *fixture) { f.exported = false }},
		{Name: "a good export is Valid, Ready and without conflict", Section: "4", run: good},
	}
}

func externalName(f *fixture) {
	f.condition(f.clusters[0], mcsv1beta1.ServiceExportConditionValid, metav1.ConditionFalse, string(mcsv1beta1.ServiceExportReasonInvalidServiceType))
	f.throughout("no import", func(ctx context.Context) error {
		err := f.clusters[0].Get(ctx, f.key(helloName), &mcsv1beta1.ServiceImport{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there (%v)", err)
	})
}

func noService(f *fixture) {
	f.create(f.clusters[1], newExport())
	f.condition(f.clusters[1], mcsv1beta1.ServiceExportConditionValid, metav1.ConditionFalse, string(mcsv1beta1.ServiceExportReasonNoService))
	f.create(f.clusters[1], newService())
	f.condition(f.clusters[1], mcsv1beta1.ServiceExportConditionValid, metav1.ConditionTrue)
	f.imported(f.clusters[0], func(i *mcsv1beta1.ServiceImport) error { // whose own Service is not exported
		return same(i.Status.Clusters, []mcsv1beta1.ClusterStatus{{Cluster: f.clusters[1].name}})
	})
}

func good(f *fixture) {
	f.condition(f.clusters[0], mcsv1beta1.ServiceExportConditionValid, metav1.ConditionTrue, string(mcsv1beta1.ServiceExportReasonValid))
	f.condition(f.clusters[0], mcsv1beta1.ServiceExportConditionReady, metav1.ConditionTrue)
	f.condition(f.clusters[0], mcsv1beta1.ServiceExportConditionConflict, metav1.ConditionFalse, string(mcsv1beta1.ServiceExportReasonNoConflicts))
}

func sliceSpecs() []spec {
	return []spec{
		{Name: "every cluster has slices with the labels, unexport deletes them", Section: "5", run: sliceLabels, setUp: withPods(1)},
		{Name: "a slice has the pods of one cluster and belongs to the import", Networks: oneNetwork, Section: "5", run: sliceContents, setUp: withPods(2)},
	}
}

func withPods(n int32) func(*fixture) {
	return func(f *fixture) { f.workload = deployment(n) }
}

func sliceLabels(f *fixture) {
	for _, c := range f.clusters {
		f.eventually(c.name+": slices", func(ctx context.Context) error {
			list, err := f.slices(ctx, c)
			if err == nil && len(list) == 0 {
				return fmt.Errorf("none")
			}
			for _, s := range list {
				managed := s.Labels[discoveryv1.LabelManagedBy]
				if s.Labels[mcsv1beta1.LabelServiceName] != helloName || s.Labels[mcsv1beta1.LabelSourceCluster] != f.clusters[0].name ||
					managed == "" || managed == "endpointslice-controller.k8s.io" {
					return fmt.Errorf("labels %v", s.Labels)
				}
			}
			return err
		})
	}
	f.unexport(f.clusters[0])
	for _, c := range f.clusters {
		f.eventually(c.name+": no slices", func(ctx context.Context) error {
			list, err := f.slices(ctx, c)
			if err == nil && len(list) > 0 {
				return fmt.Errorf("%d", len(list))
			}
			return err
		})
	}
}

func sliceContents(f *fixture) {
	want := f.podAddresses(f.clusters[0], 2)
	for _, c := range f.clusters {
		i := f.imported(c, nil)
		f.eventually(c.name+": the slice of "+f.clusters[0].name, func(ctx context.Context) error {
			list, err := f.slices(ctx, c)
			if err != nil {
				return err
			}
			got, transports := map[string]bool{}, map[corev1.Protocol]bool{}
			for _, s := range list {
				if len(s.OwnerReferences) != 1 || s.OwnerReferences[0].UID != i.UID {
					return fmt.Errorf("owners %v", s.OwnerReferences)
				}
				for _, e := range s.Endpoints {
					got[e.Addresses[0]] = e.Conditions.Ready != nil && *e.Conditions.Ready
				}
				for _, p := range s.Ports {
					transports[*p.Protocol] = *p.Port == 42
				}
			}
			if err := same(got, map[string]bool{want[0]: true, want[1]: true}); err != nil {
				return err
			}
			return same(transports, map[corev1.Protocol]bool{corev1.ProtocolTCP: true, corev1.ProtocolUDP: true})
		})
	}
}
