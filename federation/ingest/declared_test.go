package ingest

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/mcs"
)

// Only what every API server takes gets into imports, and nothing that means
// something to their controllers. (mcs.md 2, bad input)
func TestAcceptedMetadata(t *testing.T) {
	in := map[string]string{
		"team": "shop", "example.com/tier": "gold",
		"bad value": "x", "spaces": "not a label", "": "x", "isthmus.dev/x": "y", "app.kubernetes.io/managed-by": "me",
		"multicluster.kubernetes.io/derived-service": "kube-dns", "x.isthmus.dev/y": "z",
	}
	labels, bad := accepted(in, validLabel)
	if want := map[string]string{"team": "shop", "example.com/tier": "gold"}; !reflect.DeepEqual(labels, want) || len(bad) != len(in)-len(want) {
		t.Errorf("labels %v, refused %q", labels, bad)
	}
	annotations, _ := accepted(in, validAnnotation)
	if annotations["spaces"] != "not a label" || annotations["multicluster.kubernetes.io/derived-service"] != "" {
		t.Errorf("annotations %v", annotations)
	}
	long, bad := accepted(map[string]string{"a": strings.Repeat("x", maxMetadata), "b": "x"}, validAnnotation)
	if len(long) != 0 || len(bad) != 2 || len(strings.Join(bad, "")) > 500 {
		t.Errorf("too long: %d kept, %d refused", len(long), len(bad))
	}
}

// What an export says is the same after a restart while its cluster is away:
// the checkpoint keeps it. (mcs.md 3)
func TestCheckpointKeepsDeclared(t *testing.T) {
	e := mcs.Export{
		Ports: []mcs.Port{{Name: "dns", Transport: "UDP", Number: 53}, {Name: "web", Transport: mcs.TCP, Number: 80, AppProtocol: "kubernetes.io/h2c"}},
		Spec: mcs.Spec{SessionAffinity: "ClientIP", AffinitySeconds: 10, InternalTrafficPolicy: "Cluster", TrafficDistribution: "PreferClose",
			Families: []string{"IPv4", "IPv6"}},
		Labels: map[string]string{"a": "1"}, Annotations: map[string]string{"b": "two words"},
	}
	text, err := federation.Checkpoint{ExportedSince: time.Unix(1, 0), Declared: declared(e.Ports, e.Spec, e.Labels, e.Annotations)}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	cp, err := federation.ParseCheckpoint(text)
	if err != nil {
		t.Fatal(err)
	}
	var got mcs.Export
	if remember(&got, &cp); !reflect.DeepEqual(got, e) {
		t.Errorf("remembered %+v, want %+v", got, e)
	}
	if _, err := federation.ParseCheckpoint(strings.Replace(text, `"UDP"`, `"ICMP"`, 1)); err == nil {
		t.Error("a port of no transport was taken")
	}
}

// A port that is not TCP leads to the pods of the clusters that expose it under
// the import's number, whatever they call it themselves. (mcs.md 3)
func TestOtherPorts(t *testing.T) {
	older := []mcs.Port{{Name: "dns", Transport: "UDP", Number: 53}}
	younger := []mcs.Port{{Name: "domain", Transport: "UDP", Number: 53}, {Name: "dns", Transport: mcs.TCP, Number: 54}}
	merged := mcs.Merge([]mcs.Export{{Cluster: "a", Since: time.Unix(1, 0), Ports: older}, {Cluster: "b", Since: time.Unix(2, 0), Ports: younger}})
	got := importOthers(younger, merged).of([]OtherPort{{"domain", "UDP", 5353}, {"dns", "SCTP", 1}, {"none", "UDP", 2}})
	if want := []federation.OtherPort{{Transport: "UDP", Service: 53, Target: 5353}}; !slices.Equal(got, want) {
		t.Errorf("ports %v, want %v", got, want)
	}
	if tcp := importPorts(younger, merged); len(tcp) != 0 {
		t.Errorf("a TCP port serves a UDP port: %v", tcp)
	}
}
