package drill

import (
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/drill/load"
)

// Marks are the moments that divide a drill, on one clock.
type Marks struct {
	Started  time.Time `json:"started"`  // of the baseline
	Broken   time.Time `json:"broken"`   // the break was asked for
	Restored time.Time `json:"restored"` // the restore was asked for
	Ended    time.Time `json:"ended"`
}

// Objectives decide the verdict.
type Objectives struct {
	// Home must answer in the baseline and again in the end, and Away while broken;
	// empty means any cluster.
	Home string `json:"home,omitempty"`
	Away string `json:"away,omitempty"`
	// Recover is the longest time from the break to the end of the last failure.
	Recover time.Duration `json:"-"`
	// FailBack is the longest time from the restore until Home answers again.
	FailBack time.Duration `json:"-"`
	// ErrorRate is the greatest part of requests that may fail after the break, 0 to 1.
	ErrorRate float64 `json:"errorRate"`
}

// Phase is one part of a drill.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	load.Summary
}

// Verdicts.
const (
	Pass = "pass"
	Fail = "fail"
)

// Measured is what the requests say.
type Measured struct {
	Phases   []Phase `json:"phases"` // baseline, broken, restored
	Requests int     `json:"requests"`
	Errors   int     `json:"errors"`
	// RecoverSeconds is from the break to the end of the last request that failed
	// before the restore; 0 when none did.
	RecoverSeconds float64 `json:"timeToRecoverSeconds"`
	// SwitchSeconds is from the break to the first good answer that came from elsewhere
	// than Home; null when there was none.
	SwitchSeconds *float64 `json:"timeToSwitchSeconds"`
	// FailBackSeconds is from the restore to the first good answer of Home after
	// which no other cluster answered for long; null when there was none.
	FailBackSeconds *float64 `json:"timeToFailBackSeconds"`
	Verdict         string   `json:"verdict"`
	Reasons         []string `json:"reasons,omitempty"` // why it failed
}

// Judge sorts records, in any order, into the phases and measures them. A
// request belongs to the phase in which it began, or to what is broken where it was
// under way at the break; it counts as failing until it ended.
func Judge(records []load.Record, marks Marks, want Objectives) Measured {
	records = slices.Clone(records)
	slices.SortFunc(records, func(a, b load.Record) int { return a.Start.Compare(b.Start) })
	parts := [3][]load.Record{}
	for _, r := range records {
		phase := phaseOf(r, marks)
		parts[phase] = append(parts[phase], r)
	}
	m := Measured{Requests: len(records)}
	ends := []time.Time{marks.Started, marks.Broken, marks.Restored, marks.Ended}
	for i, name := range []string{"baseline", "broken", "restored"} {
		p := Phase{Name: name, Seconds: seconds(ends[i+1].Sub(ends[i])), Summary: load.Summarize(parts[i])}
		m.Errors += p.Failed
		m.Phases = append(m.Phases, p)
	}
	m.RecoverSeconds = recoverSeconds(parts[1], marks.Broken)
	m.SwitchSeconds = firstAnswer(parts[1], marks.Broken, func(cluster string) bool { return want.Home != "" && cluster != want.Home })
	m.FailBackSeconds = firstAnswer(parts[2], marks.Restored, func(cluster string) bool { return cluster == want.Home })
	m.Reasons = m.shortcomings(want)
	m.Verdict = Pass
	if len(m.Reasons) > 0 {
		m.Verdict = Fail
	}
	return m
}

func phaseOf(r load.Record, marks Marks) int {
	switch {
	case r.End().Before(marks.Broken):
		return 0
	case r.Start.Before(marks.Restored):
		return 1
	}
	return 2
}

func recoverSeconds(records []load.Record, broken time.Time) float64 {
	var last time.Time
	for _, r := range records {
		if !r.OK() && r.End().After(last) {
			last = r.End()
		}
	}
	if last.IsZero() {
		return 0
	}
	return seconds(last.Sub(broken))
}

func firstAnswer(records []load.Record, since time.Time, from func(cluster string) bool) *float64 {
	var first *float64
	for _, r := range records {
		if !r.OK() || r.Cluster == "" || !from(r.Cluster) {
			continue
		}
		if s := seconds(r.End().Sub(since)); first == nil || s < *first {
			first = &s
		}
	}
	return first
}

// shortcomings lists what is not as wanted.
func (m Measured) shortcomings(want Objectives) []string {
	var out []string
	say := func(bad bool, format string, args ...any) {
		if bad {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	base, broken, restored := m.Phases[0], m.Phases[1], m.Phases[2]
	for _, p := range m.Phases {
		say(p.Requests == 0, "no request was sent in phase %q", p.Name)
	}
	say(base.Failed > 0, "%d of %d requests failed before anything was broken", base.Failed, base.Requests)
	say(want.Home != "" && base.OK > 0 && base.Clusters[want.Home].Requests < base.OK, "before the break not only %s answered", want.Home)
	say(want.Away != "" && broken.Requests > 0 && broken.Clusters[want.Away].Requests == 0, "%s never answered while %s was broken", want.Away, want.Home)
	say(broken.Requests > 0 && broken.OK == 0, "nothing answered while broken")
	say(m.RecoverSeconds > seconds(want.Recover), "requests failed until %.1f s after the break, allowed are %.1f s", m.RecoverSeconds, seconds(want.Recover))
	after := broken.Requests + restored.Requests
	failed := broken.Failed + restored.Failed
	say(after > 0 && float64(failed) > want.ErrorRate*float64(after), "%d of %d requests failed after the break, allowed are %.2f%%", failed, after, 100*want.ErrorRate)
	if want.Home != "" {
		say(m.FailBackSeconds == nil, "%s did not answer again after the restore", want.Home)
		say(m.FailBackSeconds != nil && *m.FailBackSeconds > seconds(want.FailBack), "%s answered again only after %s", want.Home, text(m.FailBackSeconds))
	}
	return out
}

func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

func text(s *float64) string {
	if s == nil {
		return "never"
	}
	return fmt.Sprintf("%.1f s", *s)
}
