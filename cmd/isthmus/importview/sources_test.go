package importview

import (
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
)

// declaredSlice is one that remembers what its exporter declares.
func declaredSlice(t *testing.T, cluster string, minute int, c federation.Checkpoint) discoveryv1.EndpointSlice {
	t.Helper()
	s := slice(t, cluster, minute, nil)
	c.ExportedSince = noon.Add(time.Duration(minute) * time.Minute)
	text, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s.Annotations[api.AnnotationCheckpoint] = text
	return s
}

func endpoint(address, pod string, ready bool) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}
	if pod != "" {
		e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: pod}
		e.Hostname = &pod
	}
	return e
}

func slicePort(name string, number int32) discoveryv1.EndpointPort {
	return discoveryv1.EndpointPort{Name: &name, Port: &number}
}

// An export of another network is reached through the entry gateway, at ports of which some may
// stand by; one of the same network by its pods' addresses.
func TestEntry(t *testing.T) {
	far := func(port discoveryv1.EndpointPort, ready bool) discoveryv1.EndpointSlice {
		s := declaredSlice(t, "west", 1, federation.Checkpoint{Network: "net-west", Gateways: []string{"192.0.2.1:15443"}})
		s.Annotations[api.AnnotationEntryPorts] = "80=20001,81=20002"
		s.Endpoints = []discoveryv1.Endpoint{endpoint("10.10.0.9", "", ready), endpoint("10.10.0.7", "", ready)}
		s.Ports = []discoveryv1.EndpointPort{port}
		return s
	}
	near := declaredSlice(t, "north", 2, federation.Checkpoint{Network: "net-east"})
	near.Endpoints = []discoveryv1.Endpoint{endpoint("10.10.8.2", "b", true), endpoint("10.10.8.1", "a", false)}
	view := View{
		Cluster: "east", Network: "net-east", Imports: []mcsv1beta1.ServiceImport{imported("10.11.0.9", "west", "north")},
		Slices: []discoveryv1.EndpointSlice{far(slicePort("http", 20001), true), far(slicePort("admin", 20002), false), near},
	}
	i := Build(noon, []View{view}, "", "").Imports[0]
	want := map[string]Source{
		"west": {How: HowGateway, Entry: &Entry{Gateways: []string{"10.10.0.7", "10.10.0.9"}, Ports: []EntryPort{{80, 20001, true}, {81, 20002, false}}}},
		"north": {How: HowDirect, Pods: []Address{
			{Address: "10.10.8.1", Pod: "a", Hostname: "a"}, {Address: "10.10.8.2", Pod: "b", Hostname: "b", Ready: true},
		}},
	}
	for _, got := range i.Importers[0].Sources {
		w := want[got.Cluster]
		if got.How != w.How || !reflect.DeepEqual(got.Entry, w.Entry) || !reflect.DeepEqual(got.Pods, w.Pods) || got.Synthetic != nil {
			t.Errorf("%s: %+v, entry %+v", got.Cluster, got, got.Entry)
		}
	}
	refusing := Source{Cluster: "south"}
	refusing.remember(view, federation.Checkpoint{Network: "net-south", NoEntry: true})
	if refusing.How != HowGateway || refusing.Entry == nil || !refusing.Entry.Refused {
		t.Errorf("%+v", refusing)
	}
}

// Pods of another network's headless service stand at synthetic addresses.
func TestSynthetic(t *testing.T) {
	s := declaredSlice(t, "west", 1, federation.Checkpoint{Network: "net-west", Headless: true})
	s.Labels[corev1.IsHeadlessService] = ""
	s.Endpoints = []discoveryv1.Endpoint{endpoint("240.241.0.9", "db-1", false), endpoint("240.241.0.4", "db-0", true)}
	view := View{Cluster: "east", Network: "net-east", Imports: []mcsv1beta1.ServiceImport{imported("", "west")}, Slices: []discoveryv1.EndpointSlice{s}}
	got := Build(noon, []View{view}, "", "").Imports[0].Importers[0].Sources[0]
	want := []Address{{"240.241.0.4", "db-0", "db-0", true}, {"240.241.0.9", "db-1", "db-1", false}}
	if !reflect.DeepEqual(got.Synthetic, want) || got.Entry != nil || got.Pods != nil {
		t.Errorf("%+v", got)
	}
}

// Each field has its winner and those who say otherwise. An export that is refused has no word, and
// one to chosen clusters only has it there.
func TestFields(t *testing.T) {
	say := func(affinity string) federation.Checkpoint {
		return federation.Checkpoint{Network: "n", Declared: &federation.Declared{SessionAffinity: affinity, AffinitySeconds: 9, Ports: []federation.DeclaredPort{{Name: "http", Transport: "TCP", Number: 8080}}}}
	}
	chosen := export(1)
	chosen.Annotations = map[string]string{api.AnnotationExportTo: " south,north"}
	views := []View{
		{Cluster: "east", Imports: []mcsv1beta1.ServiceImport{imported("10.11.0.9", "west", "south")}, Slices: []discoveryv1.EndpointSlice{declaredSlice(t, "west", 2, say("ClientIP")), declaredSlice(t, "south", 3, say("None"))}},
		{Cluster: "north", Imports: []mcsv1beta1.ServiceImport{imported("10.31.0.9", "north", "west", "south")}, Exports: []mcsv1beta1.ServiceExport{chosen}, Slices: []discoveryv1.EndpointSlice{declaredSlice(t, "north", 1, say("None"))}},
	}
	i := Build(noon, views, "", "").Imports[0]
	if i.Winner != "west" || i.Importers[0].Winner != "west" || i.Importers[1].Winner != "north" {
		t.Errorf("winner %q, importers %+v", i.Winner, i.Importers)
	}
	if to := i.Exporters[0].To; !reflect.DeepEqual(to, []string{"north", "south"}) {
		t.Errorf("to %q", to)
	}
	if i.Ports[0].Winner != "west" || i.Ports[1].Winner != "" {
		t.Errorf("ports %+v", i.Ports)
	}
	var affinity Field
	for _, f := range i.Fields {
		if f.Name == "sessionAffinity" {
			affinity = f
		} else if f.Against != nil {
			t.Errorf("%+v", f)
		}
	}
	if want := (Field{"sessionAffinity", "ClientIP 9s", "west", []Opinion{{"south", "None"}}}); !reflect.DeepEqual(affinity, want) {
		t.Errorf("%+v", affinity)
	}
}
