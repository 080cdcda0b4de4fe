package report

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/drill"
	"github.com/isthmus-mesh/isthmus/drill/load"
)

// sample is a drill of 20 s, made from records as a real one is. West answers with east until it is
// lost at 5 s; for half a second what goes to it fails.
func sample(named bool, want drill.Objectives) drill.Result {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	marks := drill.Marks{Started: start, Broken: at(5), Restored: at(15), Ended: at(20)}
	var records []load.Record
	for i := range 200 {
		s := float64(i)/10 + 0.02
		r := load.Record{N: i + 1, Start: at(s), Millis: 4 + float64(i%7), Answer: load.Answer{Cluster: "north"}}
		if i%2 == 0 && (s < 5.5 || s > 16) {
			r.Cluster = "west"
			if s > 5 && s < 5.5 {
				r.Kind, r.Message, r.Cluster = load.KindTimeout, "it took <too> long", ""
			}
		}
		if !named {
			r.Cluster = ""
		}
		records = append(records, r)
	}
	d := drill.Result{
		Scenario: "gateway-drop", What: "cut the east-west gateway of west off from east (drop)", Service: "shop/check<out>", From: "east", Rate: 10, Means: "underlay",
		Marks: marks, Objectives: want, Measured: drill.Judge(records, marks, want), NoticedSeconds: new(2.03), HealedSeconds: new(10.7), Timeline: drill.Timeline(records, marks),
	}
	if !named {
		d.Notes = []string{drill.Unnamed}
	}
	return d
}

func golden(t *testing.T, name string, write func(io.Writer, drill.Result) error, d drill.Result) string {
	t.Helper()
	var got bytes.Buffer
	if err := write(&got, d); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("%s (UPDATE=1 rewrites it): %s", path, diff)
	}
	return got.String()
}

func TestGolden(t *testing.T) {
	pass := drill.Objectives{Lost: "west", Clean: 2 * time.Second, ErrorRate: 1, FailBack: time.Minute}
	fail := drill.Objectives{Lost: "west", Errors: new(0), FailBack: time.Second}
	golden(t, "pass.txt", Table, sample(true, pass))
	golden(t, "fail.txt", Table, sample(true, fail))
	golden(t, "unnamed.txt", Table, sample(false, drill.Objectives{ErrorRate: 1}))
	golden(t, "pass.xml", JUnit, sample(true, pass))
	golden(t, "fail.xml", JUnit, sample(true, fail))
	golden(t, "fail.html", HTML, sample(true, fail))
	files, err := os.ReadDir("testdata")
	if err != nil || len(files) != 6 {
		t.Errorf("%d golden files, %v", len(files), err)
	}
}

// The page fetches nothing, is well-formed, and escapes what comes from the cluster.
func TestPageIsSelfContained(t *testing.T) {
	var out strings.Builder
	if err := HTML(&out, sample(true, drill.Objectives{ErrorRate: 1})); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<script", "http://", "https://", "src=", "href=", "url(", "@import", "check<out>"} {
		if strings.Contains(out.String(), bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if n := strings.Count(out.String(), "<svg"); n != 2 {
		t.Errorf("%d charts", n)
	}
	for part := range strings.SplitSeq(out.String(), "<svg") {
		svg, _, ok := strings.Cut(part, "</svg>")
		if !ok {
			continue
		}
		if err := xml.Unmarshal([]byte("<svg"+svg+"</svg>"), new(struct{})); err != nil {
			t.Errorf("a chart is not well-formed: %v", err)
		}
	}
}

// A drill that has nothing to show makes a page all the same.
func TestPageOfNothing(t *testing.T) {
	for _, write := range []func(io.Writer, drill.Result) error{HTML, JUnit, Table} {
		if err := write(io.Discard, drill.Result{Scenario: "slow"}); err != nil {
			t.Error(err)
		}
	}
	if got := []float64{nice(0), nice(3), nice(4.1), nice(99), nice(102), nice(2165)}; !slices.Equal(got, []float64{1, 3, 5, 100, 120, 2400}) {
		t.Errorf("nice: %v", got)
	}
}
