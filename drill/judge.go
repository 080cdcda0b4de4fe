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

// Phase is one part of a drill.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	load.Summary
	// Wrong counts good answers from a cluster that should not have given them, once
	// the mesh has had Settle to notice.
	Wrong int `json:"wrongCluster"`
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
	// LastFailureSeconds is from the break to the beginning of the last request that failed
	// before the restore; null when none did.
	LastFailureSeconds *float64 `json:"lastFailureBeganSeconds"`
	// SwitchSeconds is from the break to the first good answer that came from elsewhere
	// than Home; null when there was none.
	SwitchSeconds *float64 `json:"timeToSwitchSeconds"`
	// FailBackSeconds is from the restore to the first good answer of what was lost; null
	// when there was none.
	FailBackSeconds *float64 `json:"timeToFailBackSeconds"`
	// WrongShare is the part of all good answers that came from a wrong cluster, 0 to 1.
	WrongShare float64  `json:"wrongClusterShare"`
	Verdict    string   `json:"verdict"`
	Checks     []Check  `json:"checks"`            // every objective, met or not
	Reasons    []string `json:"reasons,omitempty"` // why it failed
	Notes      []string `json:"notes,omitempty"`   // what limits the verdict
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
	m.RecoverSeconds, m.LastFailureSeconds = failures(parts[1], marks.Broken)
	lost := want.lost()
	m.SwitchSeconds = firstAnswer(parts[1], marks.Broken, func(cluster string) bool { return lost != "" && cluster != lost })
	m.FailBackSeconds = firstAnswer(parts[2], marks.Restored, func(cluster string) bool { return cluster == lost })
	m.countWrong(parts, marks, want)
	m.judge(want)
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

// failures returns the end of the last failure after broken, 0 when there was none, and the
// beginning of the one that began last.
func failures(records []load.Record, broken time.Time) (end float64, began *float64) {
	for _, r := range records {
		if r.OK() {
			continue
		}
		end = max(end, seconds(r.End().Sub(broken)))
		if s := max(0, seconds(r.Start.Sub(broken))); began == nil || s > *began {
			began = &s
		}
	}
	return end, began
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

func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

func text(s *float64) string {
	if s == nil {
		return "never"
	}
	return fmt.Sprintf("%.1f s", *s)
}
