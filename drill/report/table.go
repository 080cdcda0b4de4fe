// Package report tells of a drill that was done: for people, for CI, and as a page.
package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/isthmus-mesh/isthmus/drill"
)

// Table writes the table of one drill and its verdict.
func Table(w io.Writer, d drill.Result) error {
	if d.Scenario == "" {
		_, err := fmt.Fprintln(w, "No drill was done.")
		return err
	}
	fmt.Fprintf(w, "Drill %s: %s\n", d.Scenario, d.What)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "phase\tseconds\trequests\terrors\tp50 ms\tp99 ms\twrong cluster\tanswered by\t")
	for _, p := range d.Phases {
		fmt.Fprintf(t, "%s\t%.1f\t%d\t%d\t%.1f\t%.1f\t%d\t%s\t\n", p.Name, p.Seconds, p.Requests, p.Failed, p.Latency.P50, p.Latency.P99, p.Wrong, shares(p))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, p := range d.Phases {
		if p.Failed > 0 {
			fmt.Fprintf(w, "errors while %s: %s; the last: %s\n", p.Name, kinds(p.Errors), p.LastError)
		}
	}
	for _, line := range facts(d) {
		fmt.Fprintln(w, line)
	}
	for _, note := range d.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
	for _, reason := range d.Reasons {
		fmt.Fprintf(w, "not met: %s\n", reason)
	}
	_, err := fmt.Fprintf(w, "drill: %s\n", strings.ToUpper(d.Verdict))
	return err
}

// facts are what was measured beside the phases, in sentences.
func facts(d drill.Result) []string {
	first := fmt.Sprintf("requests %d, errors %d, time to recover %.2f s", d.Requests, d.Errors, d.RecoverSeconds)
	if lost := cmp.Or(d.Objectives.Lost, d.Objectives.Home); lost != "" && !d.Objectives.Same {
		first += fmt.Sprintf(", first answer from elsewhere after %s, %s again after %s", optional(d.SwitchSeconds), lost, optional(d.FailBackSeconds))
	}
	out := []string{first}
	if d.LastFailureSeconds != nil {
		out = append(out, fmt.Sprintf("the last request that failed began %.2f s after the break", *d.LastFailureSeconds))
	}
	if d.WrongShare > 0 {
		out = append(out, fmt.Sprintf("%.1f%% of the good answers came from a wrong cluster", 100*d.WrongShare))
	}
	if d.NoticedSeconds != nil {
		out = append(out, fmt.Sprintf("the mesh itself said that something is broken %.2f s after the break", *d.NoticedSeconds))
	}
	if d.HealedSeconds != nil {
		out = append(out, fmt.Sprintf("the mesh itself said that all is well %.2f s after the restore", *d.HealedSeconds))
	}
	if d.Means != "" {
		out = append(out, "broken by means of the "+d.Means)
	}
	return out
}

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
	switch {
	case len(parts) == 0 && p.OK > 0:
		return "not named"
	case len(parts) == 0:
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
