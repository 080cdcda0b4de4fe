package controllers

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/primary/controllers/allot"
)

// formatRested writes what parseRested reads: with keys, else without and
// together, else with their times put off to the full minute. The error says that
// there is too much even so: whoever gives something up then waits for the rest of
// others to end.
func formatRested(all []allot.Rested, w words) (string, error) {
	for _, write := range []func() string{
		func() string { return linesOf(all, w) },
		func() string { return linesTogether(all, w, time.Second) },
		func() string { return linesTogether(all, w, time.Minute) },
	} {
		if text := write(); len(text) <= maxRetiredBytes {
			return text, nil
		}
	}
	return "", fmt.Errorf("%d rest, which is more than can be noted", len(all))
}

func linesOf(all []allot.Rested, w words) string {
	var b strings.Builder
	for _, r := range all {
		fmt.Fprintf(&b, "%s %d", w.text(r.Number), r.Since.Unix())
		switch {
		case r.Owner != "":
			b.WriteString(" " + cmp.Or(r.Key, "-") + " " + r.Owner)
		case r.Key != "":
			b.WriteString(" " + r.Key)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// linesTogether writes a line "@SECONDS OWNER FIRST,STEP,STEPxTIMES..." for all
// numbers of an owner that rest since the same time, put off to a full unit: the
// first of them, and how far it is from each to the next.
func linesTogether(all []allot.Rested, w words, unit time.Duration) string {
	type group struct {
		since int64
		owner string
	}
	numbers := map[group][]int{}
	per := int64(unit / time.Second)
	for _, r := range all {
		g := group{(r.Since.Unix() + per - 1) / per * per, r.Owner}
		numbers[g] = append(numbers[g], r.Number)
	}
	var groups []group
	for g := range numbers {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b group) int { return cmp.Or(cmp.Compare(a.since, b.since), cmp.Compare(a.owner, b.owner)) })
	var b strings.Builder
	for _, g := range groups {
		n := numbers[g]
		slices.Sort(n)
		n = slices.Compact(n)
		fmt.Fprintf(&b, "@%d %s %s", g.since, cmp.Or(g.owner, "-"), w.text(n[0]))
		writeSteps(&b, n)
		b.WriteByte('\n')
	}
	return b.String()
}

func writeSteps(b *strings.Builder, n []int) {
	for i := 1; i < len(n); {
		step, times := n[i]-n[i-1], 1
		for i+times < len(n) && n[i+times]-n[i+times-1] == step {
			times++
		}
		if i += times; times == 1 {
			fmt.Fprintf(b, ",%d", step)
		} else {
			fmt.Fprintf(b, ",%dx%d", step, times)
		}
	}
}

// parseRested reads as much as is in order: one bad line costs no other.
func parseRested(text string, w words) []allot.Rested {
	var out []allot.Rested
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) > 0 && strings.HasPrefix(fields[0], "@") {
			out = append(out, parseTogether(fields, w)...)
			continue
		}
		if len(fields) < 2 || len(fields) > 4 {
			continue
		}
		number, ok := w.parse(fields[0])
		since, err := strconv.ParseUint(fields[1], 10, 40)
		if !ok || err != nil {
			continue
		}
		r := allot.Rested{Number: number, Since: time.Unix(int64(since), 0)}
		if len(fields) > 2 && fields[2] != "-" {
			r.Key = fields[2]
		}
		if len(fields) > 3 && fields[3] != "-" {
			r.Owner = fields[3]
		}
		out = append(out, r)
	}
	return out
}

// parseTogether reads a line of linesTogether, as far as its numbers are ones.
func parseTogether(fields []string, w words) []allot.Rested {
	if len(fields) != 3 {
		return nil
	}
	since, err := strconv.ParseUint(fields[0][1:], 10, 40)
	steps := strings.Split(fields[2], ",")
	number, ok := w.parse(steps[0])
	if err != nil || !ok {
		return nil
	}
	r := allot.Rested{Number: number, Since: time.Unix(int64(since), 0)}
	if fields[1] != "-" {
		r.Owner = fields[1]
	}
	out := []allot.Rested{r}
	for _, s := range steps[1:] {
		step, times, many := strings.Cut(s, "x")
		if !many {
			times = "1"
		}
		by, err := strconv.ParseUint(step, 10, 20)
		count, err2 := strconv.ParseUint(times, 10, 20)
		if err != nil || err2 != nil || by == 0 {
			return out
		}
		for range count {
			if r.Number += int(by); r.Number > w.last {
				return out
			}
			out = append(out, r)
		}
	}
	return out
}
