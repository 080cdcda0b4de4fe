//go:build conformance

package conformance

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

func familySpecs() []spec {
	return []spec{
		{Name: "a cluster tells its id and its clusterset", Section: "1", run: properties},
		{Name: "an import has addresses in the order of its families, and slices of each", Section: "5", run: families, setUp: withPods(1)},
		{Name: "a headless import names its families, and has slices of each", Section: "5", run: families, setUp: func(f *fixture) {
			headless(f.service)
			f.workload = deployment(1)
		}},
	}
}

// properties are those of KEP-2149.
func properties(f *fixture) {
	for _, c := range f.clusters {
		for name, want := range map[string]string{"cluster.clusterset.k8s.io": c.name, "clusterset.k8s.io": ""} {
			var p unstructured.Unstructured
			p.SetGroupVersionKind(schema.GroupVersionKind{Group: "about.k8s.io", Version: "v1beta1", Kind: "ClusterProperty"})
			f.must(c.Get(f.Context(), client.ObjectKey{Name: name}, &p))
			got, _, err := unstructured.NestedString(p.Object, "spec", "value")
			if err != nil || got == "" || want != "" && got != want {
				f.Errorf("%s: %s is %q (%v)", c.name, name, got, err)
			}
		}
	}
}

func families(f *fixture) {
	f.podAddresses(f.clusters[0], 1)
	for _, c := range f.clusters {
		i := f.imported(c, func(i *mcsv1beta1.ServiceImport) error {
			if len(i.Spec.IPFamilies) == 0 || i.Spec.Type == mcsv1beta1.ClusterSetIP && len(i.Spec.IPs) != len(i.Spec.IPFamilies) {
				return fmt.Errorf("addresses %v for families %v", i.Spec.IPs, i.Spec.IPFamilies)
			}
			return nil
		})
		for n, text := range i.Spec.IPs {
			a, err := netip.ParseAddr(text)
			if err != nil || a.Is4() != (i.Spec.IPFamilies[n] == corev1.IPv4Protocol) {
				f.Errorf("%s: address %s for family %s", c.name, text, i.Spec.IPFamilies[n])
			}
		}
		for _, family := range i.Spec.IPFamilies {
			f.eventually(fmt.Sprintf("%s: a slice of %s with an endpoint", c.name, family), func(ctx context.Context) error {
				list, err := f.slices(ctx, c)
				if err == nil && !slices.ContainsFunc(list, func(s discoveryv1.EndpointSlice) bool {
					return string(s.AddressType) == string(family) && len(s.Endpoints) > 0
				}) {
					return fmt.Errorf("none of %d", len(list))
				}
				return err
			})
		}
	}
}
