package controllers

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/trust"
)

var reviewsKey = objectKey{Namespace: "shop", Name: "reviews"}

func cluster(name, network string, change ...func(*federation.Cluster)) *federation.Cluster {
	c := &federation.Cluster{Name: federation.ClusterName(name), Network: federation.NetworkName(network), Read: true, Reachable: true, Local: name == "east"}
	for _, f := range change {
		f(c)
	}
	return c
}

func unread(c *federation.Cluster) { c.Read = false }
func gone(c *federation.Cluster)   { c.Reachable, c.Lost = false, true }
func gateway(c *federation.Cluster) {
	c.Gateways = []federation.Gateway{{Addr: netip.MustParseAddrPort("192.0.2.2:15443")}}
}

func snapshot(clusters []*federation.Cluster, services ...*federation.Service) *federation.Snapshot {
	parts := federation.Parts{Clusters: map[federation.ClusterName]*federation.Cluster{}, Services: map[federation.ServiceKey]*federation.Service{}}
	for _, c := range clusters {
		parts.Clusters[c.Name] = c
	}
	for _, s := range services {
		parts.Services[s.Key] = s
	}
	return federation.NewSnapshot(parts)
}

func endpoint(t *testing.T, cluster, network, addr string, mtls bool) federation.Endpoint {
	t.Helper()
	e := federation.Endpoint{
		Cluster: federation.ClusterName(cluster), Network: federation.NetworkName(network), Addr: netip.MustParseAddr(addr),
		Ports: []federation.EndpointPort{{Service: 9080, Target: 8080}},
	}
	if mtls {
		domain, err := trust.ParseDomain("cluster.local")
		if err != nil {
			t.Fatal(err)
		}
		if e.Account, err = trust.NewID(domain, "shop", "reviews"); err != nil {
			t.Fatal(err)
		}
		e.Tunnel = federation.TunnelMTLS
	}
	return e
}

func reviews(exports []federation.Export, endpoints ...federation.Endpoint) *federation.Service {
	return &federation.Service{
		Key:   federation.ServiceKey{Namespace: "shop", Name: "reviews"},
		Ports: []federation.Port{{Name: "http", Number: 9080, Protocol: federation.ProtocolHTTP}}, Exports: exports, Endpoints: endpoints,
	}
}

func export(cluster string, change ...func(*federation.Export)) federation.Export {
	e := federation.Export{
		Cluster: federation.ClusterName(cluster), Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Ports: []federation.Port{{Name: "http", Number: 9080, Protocol: federation.ProtocolHTTP}}, Numbers: []uint16{9080},
	}
	for _, f := range change {
		f(&e)
	}
	return e
}

func slice(cluster string) discoveryv1.EndpointSlice {
	return discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: derivedName(reviewsKey) + "-" + cluster,
		Labels: map[string]string{labelServiceName: "reviews", labelSourceCluster: cluster},
	}}
}

func managedImport() *mcsv1beta1.ServiceImport {
	return &mcsv1beta1.ServiceImport{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "reviews", Labels: map[string]string{api.LabelManagedBy: api.ManagedBy}}}
}

// print tells a plan in words, a line for each fact.
func print(p importPlan) string {
	var out []string
	if p.Delete {
		return "delete"
	}
	if p.Import != nil {
		out = append(out, fmt.Sprintf("import %s ports=%d", p.Import.Spec.Type, len(p.Import.Spec.Ports)))
	}
	if p.Derived != nil {
		out = append(out, fmt.Sprintf("derived ip=%q", p.Derived.Spec.ClusterIP))
	}
	for _, s := range p.Slices {
		var addrs []string
		for _, e := range s.Endpoints {
			addrs = append(addrs, e.Addresses[0])
		}
		out = append(out, fmt.Sprintf("slice %s %v", s.Labels[labelSourceCluster], addrs))
	}
	for c := range p.Keep {
		out = append(out, "keep "+string(c))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func TestPlanImport(t *testing.T) {
	east, west, near := cluster("east", "net1"), cluster("west", "net2", gateway), cluster("near", "net1")
	active := importState{NamespaceActive: true}
	exported := func(change ...func(*federation.Export)) *federation.Service {
		return reviews([]federation.Export{export("east"), export("near"), export("west", change...)},
			endpoint(t, "east", "net1", "10.1.0.1", true), endpoint(t, "near", "net1", "10.2.0.1", false), endpoint(t, "west", "net2", "10.1.0.1", true))
	}
	headless := exported()
	headless.Headless = true
	udp := reviews([]federation.Export{export("west")})
	udp.Ports = nil
	had := managedImport()
	had.Spec.IPs = []string{"10.96.0.9"}

	for name, test := range map[string]struct {
		snapshot *federation.Snapshot
		have     importState
		want     string
	}{
		"addresses of the own network only": {
			snapshot([]*federation.Cluster{east, west, near}, exported()), active,
			`derived ip=""; import ClusterSetIP ports=1; slice east [10.1.0.1]; slice near [10.2.0.1]; slice west []`,
		},
		"a derived service made anew asks for its old address": {
			snapshot([]*federation.Cluster{east, west}, reviews([]federation.Export{export("west")})), importState{NamespaceActive: true, Import: had},
			`derived ip="10.96.0.9"; import ClusterSetIP ports=1; slice west []`,
		},
		"headless": {
			snapshot([]*federation.Cluster{east, west, near}, headless), active,
			`derived ip="None"; import Headless ports=1; slice east [10.1.0.1]; slice near [10.2.0.1]; slice west []`,
		},
		"no tcp port": {
			snapshot([]*federation.Cluster{east, west}, udp), active, `import ClusterSetIP ports=0; slice west []`,
		},
		"no namespace": {snapshot([]*federation.Cluster{east, west, near}, exported()), importState{}, ``},
		"own cluster not read": {
			snapshot([]*federation.Cluster{cluster("east", "net1", unread), west, near}, exported()), active, ``,
		},
		"a cluster not read keeps its slice": {
			snapshot([]*federation.Cluster{east, cluster("west", "net2", unread)},
				reviews([]federation.Export{export("east"), export("west", func(e *federation.Export) { e.Checkpoint = true })})), active,
			`derived ip=""; import ClusterSetIP ports=1; keep west; slice east []`,
		},
		"a cluster not read keeps a slice that could not be parsed": {
			snapshot([]*federation.Cluster{east, cluster("west", "net2", unread)}, reviews([]federation.Export{export("east")})), active,
			`derived ip=""; import ClusterSetIP ports=1; keep west; slice east []`,
		},
		"an unreachable cluster keeps what it had": {
			snapshot([]*federation.Cluster{east, cluster("west", "net2", func(c *federation.Cluster) { c.Reachable = false })},
				reviews([]federation.Export{export("west")}, endpoint(t, "west", "net2", "10.9.0.1", true))), active,
			`derived ip=""; import ClusterSetIP ports=1; slice west []`,
		},
		"a lost cluster's slice goes, the import stays": {
			snapshot([]*federation.Cluster{east, cluster("west", "net2", gone)}, reviews(nil)),
			importState{NamespaceActive: true, Import: managedImport(), Slices: []discoveryv1.EndpointSlice{slice("west")}},
			`derived ip=""; import ClusterSetIP ports=1`,
		},
		"the last export has gone": {
			snapshot([]*federation.Cluster{east, west}),
			importState{NamespaceActive: true, Import: managedImport(), Slices: []discoveryv1.EndpointSlice{slice("west")}}, `delete`,
		},
		"nobody exports, as far as is known": {
			snapshot([]*federation.Cluster{east, cluster("west", "net2", unread)}),
			importState{NamespaceActive: true, Import: managedImport(), Slices: []discoveryv1.EndpointSlice{slice("west")}}, ``,
		},
		"the unread cluster has nothing to do with it": {
			snapshot([]*federation.Cluster{east, near, cluster("west", "net2", unread)}),
			importState{NamespaceActive: true, Import: managedImport(), Slices: []discoveryv1.EndpointSlice{slice("near")}}, `delete`,
		},
		"unlinked": {
			snapshot([]*federation.Cluster{east}),
			importState{NamespaceActive: true, Import: managedImport(), Slices: []discoveryv1.EndpointSlice{slice("west")}}, `delete`,
		},
		"somebody else's import": {
			snapshot([]*federation.Cluster{east}), importState{NamespaceActive: true, Import: &mcsv1beta1.ServiceImport{}}, ``,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := print(planImport(test.snapshot, "east", reviewsKey, test.have, given{})); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// A slice says what its addresses cannot: enough for a control plane that
// starts while the cluster cannot be read.
func TestCheckpoint(t *testing.T) {
	s := snapshot([]*federation.Cluster{cluster("east", "net1"), cluster("west", "net2", gateway), cluster("near", "net1")},
		reviews([]federation.Export{export("near"), export("west")},
			endpoint(t, "near", "net1", "10.2.0.1", false), endpoint(t, "near", "net1", "10.2.0.2", true),
			endpoint(t, "west", "net2", "10.9.0.1", true), endpoint(t, "west", "net2", "10.9.0.2", true), endpoint(t, "west", "net2", "10.9.0.3", false)))
	plan := planImport(s, "east", reviewsKey, importState{NamespaceActive: true}, given{})
	if len(plan.Slices) != 2 {
		t.Fatal(print(plan))
	}
	near, err := federation.ParseCheckpoint(plan.Slices[0].Annotations[api.AnnotationCheckpoint])
	if err != nil {
		t.Fatal(err)
	}
	if len(near.Plaintext) != 1 || near.Plaintext[0].String() != "10.2.0.1" {
		t.Errorf("plaintext %v", near.Plaintext)
	}
	west, err := federation.ParseCheckpoint(plan.Slices[1].Annotations[api.AnnotationCheckpoint])
	if err != nil {
		t.Fatal(err)
	}
	if west.Network != "net2" || !slices.Equal(west.Gateways, []string{"192.0.2.2:15443"}) || len(west.Accounts) != 1 || len(west.Plaintext) != 0 {
		t.Errorf("checkpoint %+v", west)
	}
	if len(west.Ready) != 1 || west.Ready[0].Port != 9080 || west.Ready[0].Count != 2 {
		t.Errorf("ready %+v", west.Ready)
	}
}

// Endpoints that differ in their port numbers go to slices of their own, as do
// more than a slice holds.
func TestSliceGroups(t *testing.T) {
	var endpoints []federation.Endpoint
	for i := range 1500 {
		e := endpoint(t, "east", "net1", fmt.Sprintf("10.1.%d.%d", i/250, i%250+1), true)
		if i == 7 {
			e.Ports = []federation.EndpointPort{{Service: 9080, Target: 7070}}
		}
		endpoints = append(endpoints, e)
	}
	s := snapshot([]*federation.Cluster{cluster("east", "net1")}, reviews([]federation.Export{export("east")}, endpoints...))
	plan := planImport(s, "east", reviewsKey, importState{NamespaceActive: true}, given{})
	var sizes []int
	names := map[string]bool{}
	for _, s := range plan.Slices {
		sizes = append(sizes, len(s.Endpoints))
		names[s.Name] = true
	}
	slices.Sort(sizes)
	if !slices.Equal(sizes, []int{1, 499, 1000}) || len(names) != 3 {
		t.Errorf("slices of %v endpoints, names %v", sizes, names)
	}
}

// What the exports declare is on the import, on the derived Service and, for
// each transport, on the slices. (mcs.md 3 and 5)
func TestPlanDeclared(t *testing.T) {
	svc := reviews([]federation.Export{export("east")}, endpoint(t, "east", "net1", "10.1.0.1", false))
	svc.Endpoints[0].Others = []federation.OtherPort{{Transport: "UDP", Service: 9080, Target: 53}}
	svc.Declared = &federation.Declared{
		Ports:           []federation.DeclaredPort{{Name: "http", Transport: "TCP", Number: 9080, AppProtocol: "http"}, {Transport: "UDP", Number: 9080}, {Name: "far", Transport: "SCTP", Number: 1}},
		SessionAffinity: "ClientIP", AffinitySeconds: 10, InternalTrafficPolicy: "Local", TrafficDistribution: "PreferClose",
		Labels: map[string]string{"a": "1", api.LabelManagedBy: "other"}, Annotations: map[string]string{"b": "2"},
	}
	plan := planImport(snapshot([]*federation.Cluster{cluster("east", "net1")}, svc), "east", reviewsKey, importState{NamespaceActive: true}, given{})
	spec := plan.Import.Spec
	if len(spec.Ports) != 3 || *spec.Ports[0].AppProtocol != "http" || spec.Ports[1].Protocol != corev1.ProtocolUDP ||
		spec.SessionAffinity != "ClientIP" || *spec.SessionAffinityConfig.ClientIP.TimeoutSeconds != 10 || *spec.InternalTrafficPolicy != "Local" || *spec.TrafficDistribution != "PreferClose" {
		t.Errorf("import %+v", spec)
	}
	if m := plan.Import; m.Labels["a"] != "1" || m.Labels[api.LabelManagedBy] != api.ManagedBy || m.Annotations["b"] != "2" || svc.Declared.Labels[api.LabelManagedBy] != "other" {
		t.Errorf("labels %v, annotations %v", m.Labels, m.Annotations)
	}
	derived := plan.Derived.Spec
	if len(derived.Ports) != 3 || derived.Ports[1].Name != "port-9080" || derived.SessionAffinity != "ClientIP" || derived.InternalTrafficPolicy != nil {
		t.Errorf("derived %+v", derived)
	}
	if len(plan.Slices) != 1 || len(plan.Slices[0].Ports) != 2 || *plan.Slices[0].Ports[1].Name != "port-9080" || *plan.Slices[0].Ports[1].Port != 53 {
		t.Errorf("slices %+v", plan.Slices)
	}
	other := plan.Import.DeepCopy()
	if delete(other.Labels, "a"); sameImport(other, plan.Import) || !sameImport(plan.Import, plan.Import.DeepCopy()) {
		t.Error("a label that is gone needs a write, and nothing else does")
	}
	have := plan.Derived.DeepCopy()
	have.OwnerReferences = []metav1.OwnerReference{{Name: "reviews"}}
	if !sameDerived(have, plan.Derived) {
		t.Error("the same Service is written again")
	}
	if have.Spec.SessionAffinity = corev1.ServiceAffinityNone; sameDerived(have, plan.Derived) {
		t.Error("another affinity is not written")
	}
}
