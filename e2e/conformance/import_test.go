//go:build conformance

package conformance

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1alpha1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

func importSpecs() []spec {
	return []spec{
		{Name: "an import lives while an export does", Section: "2", Required: true, run: lifecycle},
		{Name: "a ClusterIP service makes a ClusterSetIP import everywhere, unexport ends it", Section: "2", Required: true, run: ofType(mcsv1beta1.ClusterSetIP)},
		{Name: "a headless service makes a Headless import everywhere, unexport ends it", Section: "2", Required: true, run: ofType(mcsv1beta1.Headless), setUp: makeHeadless},
		{Name: "a headless import has no address", Section: "5", Required: true, run: noAddress, setUp: makeHeadless},
		{Name: "a ClusterSetIP import has an address", Section: "5", Required: true, run: address},
		{Name: "ports are those of the service, with appProtocol", Section: "3", Required: true, run: ports},
		{Name: "session affinity and its config are those of the service", Section: "3", Required: true, run: affinity},
		{Name: "internal traffic policy is that of the service", Section: "3", Required: true, run: policy, setUp: func(f *fixture) {
			f.service.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyCluster)
		}},
		{Name: "traffic distribution is that of the service", Section: "3", Required: true, run: distribution, setUp: func(f *fixture) {
			f.service.Spec.TrafficDistribution = new(corev1.ServiceTrafficDistributionPreferClose)
		}},
		{Name: "only labels and annotations of the export's spec are imported", Section: "2", run: metadata, setUp: func(f *fixture) {
			f.export.Spec.ExportedLabels, f.export.Spec.ExportedAnnotations = map[string]string{"wanted": "yes"}, map[string]string{"wanted": "yes"}
		}},
		{Name: "status names exporting clusters, readiness and slices", Section: "4", run: importStatus},
		{Name: "both API versions say the same", Section: "1", run: versions},
		{Name: "a namespace made later gets the import", Section: "2", run: laterNamespace},
	}
}

func makeHeadless(f *fixture) { headless(f.service) }

func lifecycle(f *fixture) {
	f.imported(f.clusters[0], nil)
	f.second(newService(), newExport())
	there := func(ctx context.Context) error {
		return f.clusters[0].Get(ctx, f.key(helloName), &mcsv1beta1.ServiceImport{})
	}
	f.throughout("the import after the second export", there)
	f.unexport(f.clusters[0])
	f.throughout("the import after the first unexport", there)
	f.unexport(f.clusters[1])
	f.notImported(f.clusters[0])
}

func ofType(want mcsv1beta1.ServiceImportType) func(*fixture) {
	return func(f *fixture) {
		f.condition(f.clusters[0], mcsv1beta1.ServiceExportConditionValid, metav1.ConditionTrue)
		for _, c := range f.clusters {
			if got := f.imported(c, nil).Spec.Type; got != want {
				f.Errorf("%s: type %s, want %s", c.name, got, want)
			}
		}
		f.unexport(f.clusters[0])
		for _, c := range f.clusters {
			f.notImported(c)
		}
	}
}

func noAddress(f *fixture) {
	f.imported(f.clusters[0], nil)
	f.throughout("no address", func(ctx context.Context) error {
		var i mcsv1beta1.ServiceImport
		if err := f.clusters[0].Get(ctx, f.key(helloName), &i); err != nil || len(i.Spec.IPs) == 0 {
			return err
		}
		return fmt.Errorf("it has %v", i.Spec.IPs)
	})
}

func address(f *fixture) {
	for _, c := range f.clusters {
		i := f.imported(c, hasAddress)
		if _, err := netip.ParseAddr(i.Spec.IPs[0]); err != nil || len(i.Spec.IPs) != len(i.Spec.IPFamilies) {
			f.Errorf("%s: addresses %v for families %v", c.name, i.Spec.IPs, i.Spec.IPFamilies)
		}
	}
}

func hasAddress(i *mcsv1beta1.ServiceImport) error { return same(len(i.Spec.IPs) > 0, true) }

func ports(f *fixture) {
	for _, c := range f.clusters {
		f.imported(c, func(i *mcsv1beta1.ServiceImport) error {
			return same(byName(i.Spec.Ports), importPorts(f.service.Spec.Ports))
		})
	}
}

func affinity(f *fixture) {
	for _, c := range f.clusters {
		f.imported(c, func(i *mcsv1beta1.ServiceImport) error {
			if err := same(i.Spec.SessionAffinity, f.service.Spec.SessionAffinity); err != nil {
				return err
			}
			return same(i.Spec.SessionAffinityConfig, f.service.Spec.SessionAffinityConfig)
		})
	}
}

func policy(f *fixture) {
	f.imported(f.clusters[0], func(i *mcsv1beta1.ServiceImport) error {
		return same(i.Spec.InternalTrafficPolicy, f.service.Spec.InternalTrafficPolicy)
	})
}

func distribution(f *fixture) {
	f.imported(f.clusters[0], func(i *mcsv1beta1.ServiceImport) error {
		return same(i.Spec.TrafficDistribution, f.service.Spec.TrafficDistribution)
	})
}

func metadata(f *fixture) {
	for _, c := range f.clusters {
		f.imported(c, func(i *mcsv1beta1.ServiceImport) error {
			for _, m := range []map[string]string{i.Labels, i.Annotations} {
				if m["wanted"] != "yes" || m["of-export"] != "" || m["of-service"] != "" {
					return fmt.Errorf("labels %v, annotations %v", i.Labels, i.Annotations)
				}
			}
			return nil
		})
	}
}

func importStatus(f *fixture) {
	f.second(newService(), newExport())
	for _, c := range f.clusters {
		f.imported(c, func(i *mcsv1beta1.ServiceImport) error {
			want := []mcsv1beta1.ClusterStatus{{Cluster: f.clusters[0].name}, {Cluster: f.clusters[1].name}}
			if err := same(i.Status.Clusters, want); err != nil {
				return err
			}
			if !meta.IsStatusConditionTrue(i.Status.Conditions, string(mcsv1beta1.ServiceImportConditionReady)) {
				return fmt.Errorf("conditions %v", i.Status.Conditions)
			}
			return same(i.Status.EndpointSliceObjects, mcsv1beta1.EndpointSliceObjectsPresent)
		})
	}
}

func versions(f *fixture) {
	newer := f.imported(f.clusters[1], hasAddress)
	var older mcsv1alpha1.ServiceImport
	f.must(f.clusters[1].Get(f.Context(), f.key(helloName), &older))
	f.must(same(older.Spec.IPs, newer.Spec.IPs))
	f.must(same(len(older.Spec.Ports), len(newer.Spec.Ports)))
	f.must(f.clusters[0].Get(f.Context(), f.key(helloName), &mcsv1alpha1.ServiceExport{}))
}

func laterNamespace(f *fixture) {
	f.imported(f.clusters[1], nil)
	f.must(f.clusters[1].Delete(f.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}}))
	f.before(starting, "the namespace goes", func(ctx context.Context) error {
		err := f.clusters[1].Get(ctx, client.ObjectKey{Name: f.namespace}, &corev1.Namespace{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there (%v)", err)
	})
	f.must(f.clusters[1].Create(f.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}}))
	f.imported(f.clusters[1], hasAddress)
}

func same[T any](got, want T) error {
	if reflect.DeepEqual(got, want) {
		return nil
	}
	return fmt.Errorf("%s, want %s", text(got), text(want))
}
