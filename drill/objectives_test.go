package drill

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// judgeWith judges what two clusters answered, with west lost, against want.
func judgeWith(want Objectives, parts ...any) Measured {
	records := answers(0, 0, "")
	for i := 0; i < len(parts); i += 3 {
		from, _ := parts[i].(float64)
		to, _ := parts[i+1].(float64)
		who, _ := parts[i+2].(string)
		records = append(records, answers(from, to, who)...)
	}
	return Judge(records, testMarks, want)
}

func TestObjectives(t *testing.T) {
	drop := Objectives{Lost: "west", Clean: 2 * time.Second, ErrorRate: 1, FailBack: 3 * time.Second}
	tests := []struct {
		name   string
		want   Objectives
		parts  []any
		reason string // a part of the only reason; empty: passed
		wrong  int
	}{
		{"failures that began early are forgiven", drop, []any{0.0, 5.0, "west", 5.0, 6.95, "!timeout", 7.0, 16.0, "east", 16.0, 20.0, "west"}, "", 0},
		{"one that began late is not", drop, []any{0.0, 5.0, "west", 5.0, 7.2, "!timeout", 7.2, 16.0, "east", 16.0, 20.0, "west"}, "2.1 s after the break failed", 0},
		{"nor one after the restore", drop, []any{0.0, 5.0, "west", 5.0, 16.0, "east", 16.0, 16.1, "!reset", 16.1, 20.0, "west"}, "and 1 after the restore", 0},
		{"what was never asked need not come back", drop, []any{0.0, 20.0, "east"}, "", 0},
		{"what is lost still answers", Objectives{Lost: "west", ErrorRate: 1, WrongShare: new(0.01)}, []any{0.0, 5.0, "west", 5.05, 9.0, "west", 9.05, 20.0, "east"}, "wrong cluster", 20},
		{"nothing is to change, and nothing does", Objectives{Same: true, Errors: new(0)}, []any{0.0, 20.0, "east", 0.0, 20.0, "west"}, "", 0},
		{"the shares change", Objectives{Same: true, Errors: new(0)}, []any{0.0, 20.0, "east", 0.0, 5.0, "west", 14.0, 20.0, "west"}, "answered 50% before", 0},
		{"another answers", Objectives{Same: true, Errors: new(0)}, []any{0.0, 20.0, "east", 6.0, 7.0, "west"}, "west answered while broken, and not before", 0},
		{"one too many", Objectives{Errors: new(0)}, []any{0.0, 20.0, "east", 6.0, 6.05, "!reset"}, "1 of 151 requests failed", 0},
		{"too slow", Objectives{ErrorRate: 1, P99: 5 * time.Millisecond}, []any{0.0, 20.0, "east"}, "p99 was 10.0 ms", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := judgeWith(tt.want, tt.parts...)
			if tt.reason == "" && got.Verdict != Pass || tt.reason != "" && (len(got.Reasons) != 1 || !strings.Contains(got.Reasons[0], tt.reason)) {
				t.Errorf("%s: %q", got.Verdict, got.Reasons)
			}
			if got.Phases[1].Wrong != tt.wrong {
				t.Errorf("%d wrong answers, want %d", got.Phases[1].Wrong, tt.wrong)
			}
			if met := !slices.ContainsFunc(got.Checks, func(c Check) bool { return !c.OK }); met != (got.Verdict == Pass) {
				t.Errorf("checks and verdict disagree: %+v", got.Checks)
			}
		})
	}
}

// A timeline holds each request once, in the bin in which it began.
func TestTimeline(t *testing.T) {
	points := Timeline(append(answers(0.05, 5, "east"), answers(5.05, 6, "!reset")...), testMarks)
	if len(points) != 40 || points[0].OK != 5 || points[0].Clusters["east"] != 5 || points[10].Failed != 5 || points[39].OK+points[39].Failed != 0 {
		t.Errorf("%d points: %+v", len(points), points)
	}
	if got := Timeline(nil, Marks{}); got != nil {
		t.Errorf("%v of no drill", got)
	}
}
