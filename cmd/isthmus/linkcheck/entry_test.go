package linkcheck

import (
	"errors"
	"net/netip"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/meshstatus"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/precheck"
)

// Each fault gives one finding that is not ok, about the right thing, with a next step.
func TestEntryFindings(t *testing.T) {
	absent := apierrors.NewNotFound(schema.GroupResource{}, "x")
	tests := []struct {
		name, what string // of the finding; empty for none
		state      precheck.State
		do         func(*side)
	}{
		{"well", "", "", func(*side) {}},
		{"not installed", "entry gateway", precheck.Warn, func(s *side) { s.status.Entry.Workload = meshstatus.Workload{} }},
		{"not ready", "entry gateway", precheck.Bad, func(s *side) { s.status.Entry.Ready = 0 }},
		{"no policy", "entry policy", precheck.Warn, func(s *side) { s.entry.policy = absent }},
		{"no binding", "import guard", precheck.Warn, func(s *side) { s.entry.guard = errors.Join(nil, absent) }},
		{"guard not to be read", "import guard", precheck.Warn, func(s *side) { s.entry.guard = errors.New("refused") }},
		{"no port left", "entry ports", precheck.Bad, func(s *side) { s.status.Entry.Ports.Used = 80 }},
		{"few ports left", "entry ports", precheck.Warn, func(s *side) { s.status.Entry.Ports.Used = 75 }},
		{"no range", "entry ports", precheck.Warn, func(s *side) { s.status.Entry.Ports = meshstatus.Use{} }},
		{"overlap", "synthetic range", precheck.Bad, func(s *side) { s.entry.used.Pods = []netip.Prefix{netip.MustParsePrefix("240.0.0.0/8")} }},
		{"nodes not to be read", "synthetic range", precheck.Warn, func(s *side) { s.entry.usedErr = errors.New("refused") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := testSide("east")
			s.status.Entry = meshstatus.Entry{
				Workload: meshstatus.Workload{Ready: 1, Want: 1}, Ports: meshstatus.Use{Range: "20000-20099", Size: 100, Used: 3, Resting: 20},
				Synthetic: meshstatus.Use{Range: "240.241.0.0/16"},
			}
			tt.do(s)
			var amiss []precheck.Finding
			for _, f := range s.entryFindings() {
				if f.State != precheck.OK {
					amiss = append(amiss, f)
				}
			}
			if tt.what == "" {
				if len(amiss) > 0 {
					t.Errorf("%+v", amiss)
				}
				return
			}
			if len(amiss) != 1 || amiss[0].What != tt.what || amiss[0].State != tt.state || amiss[0].Next == "" {
				t.Errorf("%+v", amiss)
			}
		})
	}
}
