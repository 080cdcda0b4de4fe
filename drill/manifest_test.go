package drill

import (
	"os"
	"strings"
	"testing"
	"time"
)

const manifest = `
apiVersion: isthmus.dev/v1alpha1
kind: Drill
metadata: {name: reviews-lose-west}
spec:
  service: bookinfo/reviews
  scenario: gateway-drop
  rate: 100
  duration: 20s
  objectives:
    maxRecovery: 3s
    maxFailBack: 30s
`

func TestParseManifest(t *testing.T) {
	m, err := ParseManifest([]byte("---\n" + manifest + "---\n# nothing\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := m.Spec.Judged()
	if m.Spec.Rate != 100 || m.Spec.Duration != Duration(20*time.Second) || m.Spec.Baseline != Duration(5*time.Second) || m.Spec.Mode != ModeDrop {
		t.Errorf("spec %+v", m.Spec)
	}
	if want.Clean != 3*time.Second || want.FailBack != 30*time.Second || want.ErrorRate != 1 || want.Errors != nil {
		t.Errorf("objectives %+v", want)
	}
}

// The samples' manifest is one.
func TestSampleManifest(t *testing.T) {
	data, err := os.ReadFile("../samples/drills/reviews.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseManifest(data)
	if err != nil || m.Spec.Scenario != ScenarioLocalEndpoints || m.Spec.Judged().FailBack != 45*time.Second {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestParseManifestRefuses(t *testing.T) {
	edit := func(old, new string) string { return strings.Replace(manifest, old, new, 1) }
	tests := []struct{ in, want string }{
		{"", "empty"},
		{"# nothing", "empty"},
		{manifest + "---\n" + manifest, "more than one document"},
		{edit("service:", "servce:"), `unknown field "spec.servce"`},
		{edit("maxRecovery:", "maxRecover:"), `unknown field "spec.objectives.maxRecover"`},
		{edit("service:", "Service:"), `unknown field "spec.Service"`},
		{edit("rate: 100", "rate: 100\n  rate: 10"), "rate"},
		{edit("kind: Drill", "kind: Dril"), `"Dril"`},
		{edit("v1alpha1", "v1"), "isthmus.dev/v1alpha1"},
		{edit("reviews-lose-west", "Lose_west"), "metadata.name"},
		{edit("gateway-drop", "gateway"), "none of local-endpoints"},
		{edit("bookinfo/reviews", "reviews"), "NAMESPACE/NAME"},
		{edit("20s", "20"), "such as 15s"},
		{edit("20s", "20h"), "duration 20h"},
		{edit("rate: 100", "rate: -1"), "rate -1"},
		{edit("rate: 100", "path: x"), `path "x"`},
		{edit("rate: 100", "mode: refuse"), "breaks by drop"},
		{edit("gateway-drop", "control-plane\n  mode: drop"), "has none"},
		{edit("gateway-drop", "flap\n  period: 15s"), "two periods"},
		{edit("maxRecovery: 3s", "maxErrorRate: 2"), "between 0 and 1"},
		{edit("maxRecovery: 3s", "maxErrors: -2"), "negative"},
	}
	for _, tt := range tests {
		if _, err := ParseManifest([]byte(tt.in)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s\nerr %v, want %q", tt.in, err, tt.want)
		}
	}
}

// Every scenario has defaults that hold, and objectives as it is meant.
func TestJudged(t *testing.T) {
	for _, name := range Scenarios() {
		s, err := Spec{Service: "a/b", Scenario: name}.WithDefaults()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		o := s.Judged()
		zero := o.Errors != nil && *o.Errors == 0
		late := name == ScenarioGatewayDrop || name == ScenarioWholeCluster
		if zero == late || (o.Clean == 2*time.Second) != late || o.Same != (name == ScenarioAPIServer || name == ScenarioControlPlane) {
			t.Errorf("%s: %+v", name, o)
		}
	}
	rate := Wants{MaxErrorRate: new(0.5)}.over(Objectives{Errors: new(0)})
	if rate.Errors != nil || rate.ErrorRate != 0.5 {
		t.Errorf("a rate in place of a number: %+v", rate)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(manifest))
	f.Add([]byte("---\n{}\n---\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest(data)
		if err != nil {
			return
		}
		if again, err := m.Spec.WithDefaults(); err != nil || again.Scenario != m.Spec.Scenario {
			t.Errorf("what was taken is refused: %v", err)
		}
	})
}
