package drilling

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/importview"
	"github.com/isthmus-mesh/isthmus/drill"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// importOf is an import as east has it: ready endpoints by exporter.
func importOf(namespace, name string, ready map[string]uint32) importview.Import {
	i := importview.Import{Namespace: namespace, Name: name}
	east := importview.Importer{Cluster: "east"}
	for _, c := range sorted(ready) {
		i.Exporters = append(i.Exporters, importview.Exporter{Cluster: c})
		east.Sources = append(east.Sources, importview.Source{Cluster: c, Endpoints: ready[c]})
	}
	i.Importers = []importview.Importer{east}
	return i
}

// eastSees is what a drill from east is planned from.
func eastSees(scenario string, ready map[string]uint32, links map[string]v1alpha1.LinkState) *seen {
	spec, _ := drill.Spec{Service: "shop/checkout", Scenario: scenario}.WithDefaults()
	s := &seen{
		spec: spec, namespace: "shop", name: "checkout", home: "east", from: &cluster.Cluster{Context: "east"}, installed: &clusterset.Installed{Cluster: "east"},
		members: map[string]*cluster.Cluster{}, imported: importOf("shop", "checkout", ready), ready: map[string]int{}, links: links,
	}
	for name, n := range ready {
		s.ready[name] = int(n)
	}
	return s
}

var connected = map[string]v1alpha1.LinkState{"west": v1alpha1.LinkConnected, "north": v1alpha1.LinkConnected}

func TestCapacity(t *testing.T) {
	tests := []struct {
		name  string
		ready map[string]uint32
		links map[string]v1alpha1.LinkState
		want  string // the beginning of the finding
	}{
		{"as many elsewhere", map[string]uint32{"west": 2, "north": 2}, connected, "ok "},
		{"home's own pods count", map[string]uint32{"west": 1, "east": 1}, connected, "ok "},
		{"fewer elsewhere", map[string]uint32{"west": 3, "north": 2}, connected, "UNSAFE"},
		{"one replica and nowhere to go", map[string]uint32{"west": 1}, connected, "REFUSED"},
		{"exported elsewhere, nothing ready", map[string]uint32{"west": 1, "north": 0}, connected, "REFUSED"},
		{"ready behind a link that is ill", map[string]uint32{"west": 1, "north": 5}, map[string]v1alpha1.LinkState{"west": v1alpha1.LinkConnected, "north": v1alpha1.LinkLost}, "REFUSED"},
	}
	for _, tt := range tests {
		if got := eastSees("gateway-drop", tt.ready, tt.links).capacityFound("west"); !strings.HasPrefix(got.String(), tt.want) {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// An exporter without the port is nowhere to go; a port that nobody has is refused.
func TestPort(t *testing.T) {
	s := eastSees("gateway-drop", nil, connected)
	s.imported = importOf("shop", "checkout", map[string]uint32{"west": 1, "north": 3})
	s.imported.Ports = []importview.Port{{Number: 80, Clusters: []string{"north", "west"}}, {Number: 90, Clusters: []string{"west"}}}
	if err := s.readPort(); err != nil || s.spec.Port != 80 || !s.capacityFound("west").OK {
		t.Errorf("port %d, ready %v, %v", s.spec.Port, s.ready, err)
	}
	s.spec.Port, s.ready = 90, map[string]int{}
	if err := s.readPort(); err != nil || s.capacityFound("west").OK {
		t.Errorf("port 90: ready %v, %v", s.ready, err)
	}
	s.spec.Port = 91
	if err := s.readPort(); !IsUsage(err) || !strings.Contains(err.Error(), "it has 80, 90") {
		t.Errorf("port 91: %v", err)
	}
}

func TestLinksFound(t *testing.T) {
	s := eastSees("gateway-drop", map[string]uint32{"west": 1, "north": 1}, map[string]v1alpha1.LinkState{"west": v1alpha1.LinkStale})
	got := fmt.Sprint(s.linksFound("west"))
	if !strings.Contains(got, "REFUSED  the link from east to west is Stale") || !strings.Contains(got, "UNSAFE   the link from east to north is not known") {
		t.Error(got)
	}
}

// On one network no gateway can be missed.
func TestBetween(t *testing.T) {
	s := eastSees("gateway-drop", map[string]uint32{"west": 1, "north": 1}, connected)
	s.near = map[string]bool{"north": true}
	if got := s.betweenFound("west").String(); !strings.HasPrefix(got, "ok ") {
		t.Error(got)
	}
	if f := s.betweenFound("north"); !strings.HasPrefix(f.String(), "REFUSED  east and north are on one network") || !strings.Contains(f.Next, "api-server") {
		t.Errorf("%s, next %q", f, f.Next)
	}
}

// Only what nobody else serves counts as lost with a cluster.
func TestOnlyThere(t *testing.T) {
	imports := []importview.Import{
		importOf("shop", "checkout", map[string]uint32{"west": 1}), // the one that is drilled
		importOf("shop", "both", map[string]uint32{"west": 1, "north": 1}),
		importOf("shop", "alone", map[string]uint32{"west": 1}),
		importOf("shop", "empty", map[string]uint32{"west": 1, "north": 0}),
		importOf("shop", "elsewhere", map[string]uint32{"north": 1}),
	}
	if got, want := onlyThere(imports, "west", "shop", "checkout"), []string{"shop/alone", "shop/empty"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := few([]string{"a", "b", "c", "d", "e", "f", "g"}); got != "a, b, c, d, e and 2 more" {
		t.Error(got)
	}
}

// --force overrules what is unsafe, and never what is refused.
func TestSafe(t *testing.T) {
	unsafe, no := doubtful("do this", "it is doubtful"), refused("do that", "it is refused")
	for _, tt := range []struct {
		force    bool
		findings []Finding
		next     string // empty: safe
	}{
		{false, []Finding{fine("x")}, ""},
		{false, []Finding{fine("x"), unsafe}, "do this; --force goes on as it is"},
		{true, []Finding{fine("x"), unsafe}, ""},
		{true, []Finding{unsafe, no}, "do that"},
	} {
		p := &Plan{Spec: drill.Spec{Force: tt.force}, Findings: tt.findings}
		err := p.Safe()
		if (err == nil) != (tt.next == "") || err != nil && (!errors.Is(err, drill.ErrUnsafe) || Next(err) != tt.next) {
			t.Errorf("%+v: %v, next %q", tt, err, Next(err))
		}
	}
}

func TestLostCluster(t *testing.T) {
	three := map[string]uint32{"east": 1, "west": 1, "north": 1}
	tests := []struct {
		remote string
		ready  map[string]uint32
		want   string
		usage  bool
	}{
		{"", map[string]uint32{"east": 1, "west": 1}, "west", false},
		{"", three, "", true},
		{"north", three, "north", false},
		{"east", three, "", true},
		{"nowhere", three, "", true},
		{"", map[string]uint32{"east": 1}, "", false},
	}
	for _, tt := range tests {
		s := eastSees("gateway-drop", tt.ready, connected)
		s.spec.Remote = tt.remote
		got, err := s.lostCluster()
		if got != tt.want || (err == nil) != (tt.want != "") || IsUsage(err) != tt.usage {
			t.Errorf("%+v: %q, %v", tt, got, err)
		}
	}
}

// The underlay cannot be cut where there is none, and the mesh can break nothing without a way to the clusters.
func TestRefusedMeans(t *testing.T) {
	for _, name := range []string{drill.ScenarioGatewayDrop, drill.ScenarioAPIServer, drill.ScenarioWholeCluster, drill.ScenarioFlap} {
		s := eastSees(name, map[string]uint32{"west": 1, "north": 1}, connected)
		s.spec.Means = drill.MeansUnderlay
		p := &Plan{Spec: s.spec, seen: s}
		err := p.breakRemote(t.Context(), "west")
		if !errors.Is(err, ErrCannot) || !strings.Contains(Next(err), "--means mesh") {
			t.Errorf("%s: %v, next %q", name, err, Next(err))
		}
	}
	for _, name := range []string{drill.ScenarioGatewayRefuse, drill.ScenarioWholeCluster} {
		s := eastSees(name, map[string]uint32{"west": 1, "north": 1}, connected)
		p := &Plan{Spec: s.spec, seen: s}
		if err := p.breakRemote(t.Context(), "west"); err == nil || !strings.Contains(err.Error(), "no context of the kubeconfig leads to west") {
			t.Errorf("%s without a context for west: %v", name, err)
		}
	}
}

// A flap mends first, then breaks, in turn, and stops when it is told to.
func TestFlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var steps []string
		step := func(name string) func(context.Context) error {
			return func(context.Context) error { steps = append(steps, name); return nil }
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		if err := flap(time.Second, step("break"), step("mend"), step("keep"))(ctx); err != nil {
			t.Fatal(err)
		}
		if want := []string{"keep", "mend", "break", "keep", "mend"}; !slices.Equal(steps, want) {
			t.Errorf("%v, want %v", steps, want)
		}
		lapsed := errors.New("it ended by itself")
		err := flap(time.Second, step("break"), step("mend"), func(context.Context) error { return lapsed })(t.Context())
		if !errors.Is(err, lapsed) {
			t.Errorf("what did not stay broken: %v", err)
		}
	})
}
