package drill

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/drill/load"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// testMarks: 5 s of baseline, 10 s broken, 5 s restored.
var testMarks = Marks{Started: t0, Broken: t0.Add(5 * time.Second), Restored: t0.Add(15 * time.Second), Ended: t0.Add(20 * time.Second)}

var testObjectives = Objectives{Home: "east", Away: "west", Recover: 2 * time.Second, FailBack: 3 * time.Second, ErrorRate: 0.05}

// answers makes ten requests a second from second from to second to, answered by who;
// "!kind" is a failure. Each takes 10 ms.
func answers(from, to float64, who string) []load.Record {
	var out []load.Record
	for at := from; at < to-1e-9; at += 0.1 {
		r := load.Record{Start: t0.Add(time.Duration(at * float64(time.Second))), Millis: 10, Status: 200}
		if kind, bad := strings.CutPrefix(who, "!"); bad {
			r.Kind = kind
		} else {
			r.Answer = load.Answer{Cluster: who, Pod: "p"}
		}
		out = append(out, r)
	}
	return out
}

func TestJudge(t *testing.T) {
	tests := []struct {
		name    string
		records []load.Record
		verdict string
		reason  string // a part of the only reason
		recover float64
	}{
		{
			name:    "clean failover and fail-back",
			records: slices.Concat(answers(0, 5.5, "east"), answers(5.5, 16, "west"), answers(16, 20, "east")),
			verdict: Pass,
		},
		{
			name:    "a few failures, recovered in time",
			records: slices.Concat(answers(0, 5, "east"), answers(5, 5.3, "!refused"), answers(5.3, 16, "west"), answers(16, 20, "east")),
			verdict: Pass, recover: 0.21,
		},
		{
			name:    "under way at the break",
			records: slices.Concat(answers(0, 4.9, "east"), answers(4.995, 5, "west"), answers(5, 16, "west"), answers(16, 20, "east")),
			verdict: Pass,
		},
		{
			name:    "too slow",
			records: slices.Concat(answers(0, 5, "east"), answers(5, 7, "west"), answers(8, 8.1, "!timeout"), answers(8.1, 16, "west"), answers(16, 20, "east")),
			verdict: Fail, reason: "until 3.0 s after the break", recover: 3.01,
		},
		{
			name:    "too many",
			records: slices.Concat(answers(0, 5, "east"), answers(5, 6.5, "!refused"), answers(6.5, 16, "west"), answers(16, 20, "east")),
			verdict: Fail, reason: "15 of 150 requests failed", recover: 1.41,
		},
		{
			name:    "never switched",
			records: answers(0, 20, "east"),
			verdict: Fail, reason: "west never answered",
		},
		{
			name:    "never came back",
			records: slices.Concat(answers(0, 5, "east"), answers(5, 20, "west")),
			verdict: Fail, reason: "did not answer again",
		},
		{
			name:    "came back late",
			records: slices.Concat(answers(0, 5, "east"), answers(5, 19, "west"), answers(19, 20, "east")),
			verdict: Fail, reason: "again only after 4.0 s",
		},
		{
			name:    "ill before",
			records: slices.Concat(answers(0, 1, "!refused"), answers(1, 5, "east"), answers(5, 16, "west"), answers(16, 20, "east")),
			verdict: Fail, reason: "before anything was broken",
		},
		{
			name:    "elsewhere before",
			records: slices.Concat(answers(0, 1, "west"), answers(1, 5, "east"), answers(5, 16, "west"), answers(16, 20, "east")),
			verdict: Fail, reason: "not only east",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Judge(tt.records, testMarks, testObjectives)
			if got.Verdict != tt.verdict || tt.verdict == Fail && (len(got.Reasons) != 1 || !strings.Contains(got.Reasons[0], tt.reason)) {
				t.Errorf("%s: %q", got.Verdict, got.Reasons)
			}
			if diff := got.RecoverSeconds - tt.recover; diff < -0.02 || diff > 0.02 {
				t.Errorf("recovered after %v, want %v", got.RecoverSeconds, tt.recover)
			}
			shuffled := slices.Clone(tt.records)
			rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			if diff := cmp.Diff(got, Judge(shuffled, testMarks, testObjectives)); diff != "" {
				t.Errorf("another order, another judgement: %s", diff)
			}
		})
	}
}

// No request at all is no success.
func TestJudgeNothing(t *testing.T) {
	if got := Judge(nil, testMarks, testObjectives); got.Verdict != Fail {
		t.Errorf("%+v", got)
	}
}

func TestReadRecords(t *testing.T) {
	var in bytes.Buffer
	enc := json.NewEncoder(&in)
	for _, r := range answers(0, 1, "east") {
		if err := enc.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	var got []load.Record
	now := t0.Add(time.Hour)
	if err := readRecords(&in, func() time.Time { return now }, func(r load.Record) { got = append(got, r) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 10 || got[0].Cluster != "east" || !got[0].End().Equal(now) {
		t.Errorf("%d records, first %+v", len(got), got[0])
	}
	if err := readRecords(strings.NewReader("{\"n\":1}\nnonsense"), time.Now, func(load.Record) {}); err == nil {
		t.Error("nonsense was taken")
	}
}
