package importview

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func object(name string, minute int) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "shop", Name: name, CreationTimestamp: metav1.NewTime(noon.Add(time.Duration(minute) * time.Minute))}
}

func export(minute int, conditions ...metav1.Condition) mcsv1beta1.ServiceExport {
	return mcsv1beta1.ServiceExport{ObjectMeta: object("checkout", minute), Status: mcsv1beta1.ServiceExportStatus{Conditions: conditions}}
}

func condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}

func imported(ip string, clusters ...string) mcsv1beta1.ServiceImport {
	i := mcsv1beta1.ServiceImport{ObjectMeta: object("checkout", 3), Spec: mcsv1beta1.ServiceImportSpec{
		Type: mcsv1beta1.ClusterSetIP, IPs: []string{ip}, Ports: []mcsv1beta1.ServicePort{{Name: "http", Port: 80}, {Name: "admin", Port: 81, Protocol: "TCP"}},
	}}
	for _, c := range clusters {
		i.Status.Clusters = append(i.Status.Clusters, mcsv1beta1.ClusterStatus{Cluster: c})
	}
	return i
}

// slice is what an importer keeps of cluster: a number of ready endpoints for each port.
func slice(t *testing.T, cluster string, minute int, ready map[uint16]uint32) discoveryv1.EndpointSlice {
	t.Helper()
	c := federation.Checkpoint{Network: federation.NetworkName("net-" + cluster), Gateways: []string{"192.0.2.1:15443"}, ExportedSince: noon.Add(time.Duration(minute) * time.Minute)}
	for _, port := range []uint16{80, 81} {
		if n, ok := ready[port]; ok {
			c.Ports = append(c.Ports, federation.Port{Number: port})
			c.Ready = append(c.Ready, federation.CheckpointCount{Port: port, Count: n})
		}
	}
	text, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m := object("isthmus-x-"+cluster, minute)
	m.Labels = map[string]string{mcsv1beta1.LabelServiceName: "checkout", mcsv1beta1.LabelSourceCluster: cluster}
	m.Annotations = map[string]string{api.AnnotationCheckpoint: text}
	return discoveryv1.EndpointSlice{ObjectMeta: m}
}

// Two exporters that disagree, one of which nobody can ask: the older one's word counts, each port leads to
// those that expose it, and the conflict is told once for all who say so.
func TestBuild(t *testing.T) {
	clash := condition("Conflict", metav1.ConditionTrue, "PortConflict", "port http: west won; 1 of 2 clusters disagrees")
	views := []View{
		{
			Cluster: "east", Exports: []mcsv1beta1.ServiceExport{export(2, clash, condition("Valid", metav1.ConditionTrue, "Valid", ""))},
			Imports: []mcsv1beta1.ServiceImport{imported("10.11.0.9", "east", "west")},
			Slices:  []discoveryv1.EndpointSlice{slice(t, "east", 2, map[uint16]uint32{80: 1}), slice(t, "west", 1, map[uint16]uint32{80: 2, 81: 3})},
		},
		{Cluster: "north", Exports: []mcsv1beta1.ServiceExport{export(4, clash)}, Imports: []mcsv1beta1.ServiceImport{imported("10.31.0.9", "west")}},
	}
	report := Build(noon, views, "shop", "checkout")
	slices.Reverse(views)
	again := Build(noon, views, "shop", "checkout")
	for _, r := range []*Report{&report, &again} {
		slices.Sort(r.Imports[0].Conflicts[0].Seen)
	}
	if !reflect.DeepEqual(report, again) {
		t.Errorf("another order, another report:\n%+v\n%+v", report, again)
	}
	i := report.Imports[0]
	if report.Healthy || i.Winner != "west" || i.Hostname != "checkout.shop.svc.clusterset.local" || i.Type != "ClusterSetIP" {
		t.Errorf("healthy %v, %+v", report.Healthy, i)
	}
	var names []string
	for _, e := range i.Exporters {
		names = append(names, e.Cluster)
	}
	if !slices.Equal(names, []string{"west", "east", "north"}) || i.Endpoints("west") != 3 || i.Endpoints("north") != 0 {
		t.Errorf("exporters %v: %+v", names, i.Exporters)
	}
	if want := []Port{{"http", "TCP", 80, []string{"east", "west"}, "west"}, {"admin", "TCP", 81, []string{"west"}, "west"}}; !reflect.DeepEqual(i.Ports, want) {
		t.Errorf("ports %+v", i.Ports)
	}
	if len(i.Conflicts) != 1 || !slices.Equal(i.Conflicts[0].Seen, []string{"east", "north"}) {
		t.Errorf("conflicts %+v", i.Conflicts)
	}
	if len(i.Importers) != 2 || len(i.Importers[0].Sources) != 2 || i.Importers[0].Sources[1].Endpoints != 3 || i.Importers[1].Sources[0].Cluster != "west" {
		t.Errorf("importers %+v", i.Importers)
	}
	if other := Build(noon, views, "shop", "other"); len(other.Imports) != 0 || !other.Healthy {
		t.Errorf("another name: %+v", other)
	}
}

// What is not well is said: an export that is refused, an import that nobody exports, a slice that cannot be read.
func TestNotWell(t *testing.T) {
	refused := View{Cluster: "east", Exports: []mcsv1beta1.ServiceExport{export(1, condition("Valid", metav1.ConditionFalse, "NoService", "there is none"))}}
	if r := Build(noon, []View{refused}, "", ""); r.Healthy || r.Imports[0].Exporters[0].Message != "NoService: there is none" {
		t.Errorf("refused: %+v", r)
	}
	orphan := View{Cluster: "east", Imports: []mcsv1beta1.ServiceImport{imported("10.11.0.9")}}
	if r := Build(noon, []View{orphan}, "", ""); r.Healthy {
		t.Errorf("orphan: %+v", r)
	}
	torn := orphan
	torn.Slices = []discoveryv1.EndpointSlice{slice(t, "west", 1, nil)}
	torn.Slices[0].Annotations[api.AnnotationCheckpoint] = "{"
	if r := Build(noon, []View{torn}, "", ""); r.Healthy || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "isthmus-x-west") {
		t.Errorf("torn: %+v", r)
	}
	good := View{Cluster: "east", Exports: []mcsv1beta1.ServiceExport{export(1, condition("Valid", metav1.ConditionTrue, "Valid", ""))}, Imports: []mcsv1beta1.ServiceImport{imported("10.11.0.9", "east")}}
	if r := Build(noon, []View{good}, "", ""); !r.Healthy {
		t.Errorf("good: %+v", r)
	}
}
