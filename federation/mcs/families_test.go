package mcs

import (
	"slices"
	"testing"
)

// A family that would reach only some backends is a conflict; the order of
// preference, which reaches all by both, is none.
func TestIPFamilyConflict(t *testing.T) {
	four, six, both := []string{"IPv4"}, []string{"IPv6"}, []string{"IPv4", "IPv6"}
	for name, c := range map[string]struct {
		oldest, other []string
		conflict      bool
	}{
		"the same":                       {both, both, false},
		"another order":                  {both, []string{"IPv6", "IPv4"}, false},
		"nothing said is IPv4":           {nil, four, false},
		"the oldest has one more":        {both, four, true},
		"the other has one more":         {four, both, true},
		"none in common":                 {four, six, true},
		"both, where nothing is said":    {nil, both, true},
		"only IPv6, where nothing is so": {nil, six, true},
	} {
		t.Run(name, func(t *testing.T) {
			got := Merge([]Export{{Cluster: "a", Since: at(1), Spec: Spec{Families: c.oldest}}, {Cluster: "b", Since: at(2), Spec: Spec{Families: c.other}}})
			raised := slices.ContainsFunc(got.Conflicts, func(x Conflict) bool { return x.Reason == IPFamilyConflict })
			if raised != c.conflict || !slices.Equal(got.Spec.Families, c.oldest) {
				t.Errorf("conflict %v, families %v", raised, got.Spec.Families)
			}
		})
	}
}
