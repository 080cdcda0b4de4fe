package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// print shows a line for each test, and what the run cost.
func (r *report) print(w io.Writer) error {
	var b strings.Builder
	on := "unknown: the tests ended before they could say"
	if r.Ground != "" {
		on = r.Ground + ", topology " + r.Topology
	}
	fmt.Fprintf(&b, "\n== end-to-end tests on %s\n", on)
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "TEST\tSECONDS\tVERDICT\tWHY")
	total := 0.0
	for _, t := range r.Tests {
		fmt.Fprintf(tw, "%s\t%.1f\t%s\t%s\n", t.Name, t.Seconds, t.Verdict, t.Why)
		if !t.sub() {
			total += t.Seconds
		}
	}
	tw.Flush()
	for _, s := range r.Start {
		fmt.Fprintf(&b, "%6.1f s  %s\n", s.Seconds, s.What)
	}
	fmt.Fprintf(&b, "%6.1f s  tests\n", total)
	for _, node := range slices.Sorted(maps.Keys(r.Memory)) {
		fmt.Fprintf(&b, "%4d MiB  %s\n", r.Memory[node]>>20, node)
	}
	fmt.Fprintf(&b, "%s: %d passed, %d failed, %d skipped\n", r.verdict(),
		r.count(passed), r.count(failed)+r.count(unfinished), r.count(skipped))
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *report) verdict() string {
	if r.ok() {
		return "PASSED"
	}
	return "FAILED"
}

// count counts tests, without their subtests, by what became of them.
func (r *report) count(verdict string) int {
	n := 0
	for _, t := range r.Tests {
		if !t.sub() && t.Verdict == verdict {
			n++
		}
	}
	return n
}
