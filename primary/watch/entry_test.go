package watch

import (
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
)

// What the entry gateway, chosen clusters and synthetic addresses need is read:
// labels of namespaces, entry Services and their slices, annotations of exports
// and of imported slices.
func TestEntryIsRead(t *testing.T) {
	west := needWest(t)
	e, c := prepare(t, east, "net-east"), prepare(t, west, "net-west")
	workload{"closed", "app", "10.40.0.1", true, true}.create(t, e)
	workload{"closed", "far", "10.20.0.1", true, true}.create(t, c)
	r := start(t, func(o *Options) { o.EntryFrom = []netip.Prefix{netip.MustParsePrefix("10.40.0.9/16")} })
	secret := remoteSecret(t, "west", readerConfig(t, west))
	must(t, e.Create(t.Context(), secret))
	home := func(s *federation.Snapshot) *federation.Cluster { return s.Cluster("east") }
	r.wait("the given range", func(s *federation.Snapshot) bool {
		return slices.Equal(home(s).EntryFrom, []netip.Prefix{netip.MustParsePrefix("10.40.0.0/16")}) && slices.Contains(home(s).Inside, netip.MustParsePrefix("10.40.0.1/32")) && len(home(s).ShutOut) == 0
	})

	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "closed"}}
	label := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"isthmus.dev/entry":"refuse"}}}`))
	must(t, e.Patch(t.Context(), ns, label))
	r.wait("the pod shut out", func(s *federation.Snapshot) bool {
		return slices.Equal(home(s).ShutOut, []netip.Addr{netip.MustParseAddr("10.40.0.1")})
	})

	meta := metav1.ObjectMeta{Namespace: api.SystemNamespace, Name: api.EntryName, Labels: map[string]string{api.LabelGateway: api.GatewayEntry, discoveryv1.LabelServiceName: api.EntryName}}
	svc := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{{Port: api.PortHealth}}}}
	gateways := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.40.0.7"}}}}
	must(t, e.Create(t.Context(), svc))
	must(t, e.Create(t.Context(), gateways))
	r.wait("the entry gateway", func(s *federation.Snapshot) bool {
		return slices.Equal(home(s).Entries, []netip.Addr{netip.MustParseAddr("10.40.0.7")})
	})

	imported := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, ObjectMeta: metav1.ObjectMeta{
		Namespace: "closed", Name: "isthmus-far-west", Annotations: map[string]string{api.AnnotationEntryPorts: "9080=20001"},
		Labels: map[string]string{discoveryv1.LabelManagedBy: api.ManagedBy, mcsv1beta1.LabelServiceName: "far", mcsv1beta1.LabelSourceCluster: "west"},
	}}
	must(t, e.Create(t.Context(), imported))
	far := federation.ServiceKey{Namespace: "closed", Name: "far"}
	r.wait("the entry port", func(s *federation.Snapshot) bool {
		svc := s.Service(far)
		return svc != nil && slices.Equal(svc.EntryPorts, []federation.EntryPort{{Cluster: "east", Service: 9080, Port: 20001}})
	})

	annotate := func(c client.Client, name, text string) {
		export := &mcsv1beta1.ServiceExport{ObjectMeta: metav1.ObjectMeta{Namespace: "closed", Name: name}}
		must(t, c.Patch(t.Context(), export, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{`+text+`}}}`))))
	}
	annotate(c, "far", `"isthmus.dev/export-to":"north"`)
	annotate(e, "app", `"isthmus.dev/export-to":"west","isthmus.dev/entry":"refuse"`)
	r.wait("the terms of both exports", func(s *federation.Snapshot) bool {
		w := s.Workload(federation.WorkloadKey{Cluster: "east", Namespace: "closed", Name: "app"})
		return s.Service(far).OnlyHidden() && w != nil && len(w.Inbound) == 1 && w.Inbound[0].NoEntry &&
			slices.Equal(w.Inbound[0].From, []federation.ClusterName{"east", "west"})
	})
	for _, o := range []client.Object{secret, svc, gateways, imported} {
		must(t, e.Delete(t.Context(), o))
	}
}
