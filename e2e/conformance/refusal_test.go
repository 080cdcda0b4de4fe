//go:build conformance

package conformance

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

func refusalSpecs() []spec {
	return []spec{
		{Name: "a service of a system namespace is refused", Section: "2", run: systemNamespace},
		{Name: "an import that a user writes is refused or judged", Section: "2", run: userImport, setUp: func(f *fixture) { f.exported = false }},
		{Name: "an import that a user changes is refused or taken back", Section: "2", run: userChange},
		{Name: "labels that Kubernetes refuses are left out with a note", Section: "2", run: badLabels, setUp: func(f *fixture) {
			f.export.Spec.ExportedLabels = map[string]string{"wanted": "yes", "no label": "x", "value": "not / a label"}
			f.export.Spec.ExportedAnnotations = map[string]string{"wanted": "yes"}
		}},
		{Name: "an address that belongs to the importing cluster is left out there", Section: "5", Networks: oneNetwork, run: foreignAddress, setUp: func(f *fixture) {
			f.service.Spec.Selector = nil
		}},
		{Name: "an export whose namespace is missing elsewhere waits for it", Section: "2", run: missingNamespace, setUp: func(f *fixture) { f.later = true }},
	}
}

func systemNamespace(f *fixture) {
	key := client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: f.namespace} // a name of its own
	service, export := newService(), newExport()
	for _, o := range []client.Object{service, export} {
		o.SetNamespace(key.Namespace)
		o.SetName(key.Name)
		f.must(f.clusters[0].Create(f.Context(), o))
		f.removed(f.clusters[0], o)
	}
	f.eventually("the export is refused", func(ctx context.Context) error {
		var e mcsv1beta1.ServiceExport
		if err := f.clusters[0].Get(ctx, key, &e); err != nil {
			return err
		}
		c := meta.FindStatusCondition(e.Status.Conditions, string(mcsv1beta1.ServiceExportConditionValid))
		if c == nil || c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, metav1.NamespaceSystem) {
			return fmt.Errorf("Valid is %+v", c)
		}
		return nil
	})
	f.throughout("no import", func(ctx context.Context) error {
		for _, c := range f.clusters {
			if err := c.Get(ctx, key, &mcsv1beta1.ServiceImport{}); !apierrors.IsNotFound(err) {
				return fmt.Errorf("%s: it is there (%v)", c.name, err)
			}
		}
		return nil
	})
}

// userImport writes an import of what nobody exports.
func userImport(f *fixture) {
	i := &mcsv1beta1.ServiceImport{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: helloName}}
	i.Spec.Type, i.Spec.IPs, i.Spec.Ports = mcsv1beta1.ClusterSetIP, []string{"192.0.2.1"}, []mcsv1beta1.ServicePort{{Port: 42, Protocol: corev1.ProtocolTCP}}
	err := f.clusters[1].Create(f.Context(), i)
	if err != nil {
		f.refused(err)
		return
	}
	f.imported(f.clusters[1], func(i *mcsv1beta1.ServiceImport) error {
		c := meta.FindStatusCondition(i.Status.Conditions, string(mcsv1beta1.ServiceImportConditionReady))
		if c == nil || c.Status != metav1.ConditionFalse || c.Reason == "" || c.Message == "" {
			return fmt.Errorf("Ready is %+v", c)
		}
		return nil
	})
}

func userChange(f *fixture) {
	i := f.imported(f.clusters[1], hasAddress)
	ours := i.Spec.DeepCopy()
	change := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"ips":["192.0.2.1"]}}`))
	if err := f.clusters[1].Patch(f.Context(), i, change); err != nil {
		f.refused(err)
	}
	f.imported(f.clusters[1], func(i *mcsv1beta1.ServiceImport) error { return same(i.Spec, *ours) })
}

// refused wants an answer of admission that tells the reason.
func (f *fixture) refused(err error) {
	f.Helper()
	if !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "ServiceExport") {
		f.Fatalf("refused without a reason that helps: %v", err)
	}
	f.Log(err)
}

// foreignAddress claims, beside an address that is nobody's, that of the
// importing cluster's node.
func foreignAddress(f *fixture) {
	own, foreign := "192.0.2.10", f.nodeAddress(f.clusters[1])
	f.create(f.clusters[0], &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "claims", Labels: map[string]string{discoveryv1.LabelServiceName: helloName, discoveryv1.LabelManagedBy: "user"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("tcp"), Port: new(int32(42)), Protocol: new(corev1.ProtocolTCP)}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{own}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}},
			{Addresses: []string{foreign}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}},
		},
	})
	only := func(ctx context.Context) error {
		list, err := f.slices(ctx, f.clusters[1])
		if err != nil {
			return err
		}
		return same(readyAddresses(list), []string{own})
	}
	f.eventually("only the exporter's own address", only)
	f.throughout("only the exporter's own address", only)
}

func (f *fixture) nodeAddress(c *cluster) string {
	f.Helper()
	var nodes corev1.NodeList
	f.must(c.List(f.Context(), &nodes))
	for _, n := range nodes.Items {
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP {
				return a.Address
			}
		}
	}
	f.Fatalf("%s: no node has an address", c.name)
	return ""
}

func badLabels(f *fixture) {
	f.ready(f.clusters[0], "no label", "left out")
	for _, c := range f.clusters {
		f.imported(c, func(i *mcsv1beta1.ServiceImport) error {
			_, bad := i.Labels["value"]
			return same([]string{i.Labels["wanted"], i.Annotations["wanted"], fmt.Sprint(bad)}, []string{"yes", "yes", "false"})
		})
	}
}

func missingNamespace(f *fixture) {
	f.ready(f.clusters[0])
	f.imported(f.clusters[0], hasAddress)
	err := f.clusters[1].Get(f.Context(), client.ObjectKey{Name: f.namespace}, &corev1.Namespace{})
	if !apierrors.IsNotFound(err) {
		f.Fatalf("the namespace was made (%v)", err)
	}
	f.makeNamespace(f.clusters[1])
	f.imported(f.clusters[1], hasAddress)
}
