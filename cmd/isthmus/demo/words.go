package demo

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/drill"
)

// shares says which cluster answered how many, the most first.
func shares(p drill.Phase) string {
	names := slices.SortedFunc(maps.Keys(p.Clusters), func(a, b string) int {
		if d := p.Clusters[b].Requests - p.Clusters[a].Requests; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("%s %.0f%%", name, 100*p.Clusters[name].Fraction))
	}
	if len(parts) == 0 {
		return "nobody"
	}
	return strings.Join(parts, ", ")
}

func kinds(errors map[string]int) string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(errors)) {
		parts = append(parts, fmt.Sprintf("%d %s", errors[kind], kind))
	}
	return strings.Join(parts, ", ")
}

func optional(s *float64) string {
	if s == nil {
		return "never"
	}
	return fmt.Sprintf("%.2f s", *s)
}
