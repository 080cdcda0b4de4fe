package main

import (
	"bufio"
	"encoding/json"
	"io"
	"regexp"
	"strings"
)

// What became of a test.
const (
	passed     = "pass"
	failed     = "FAIL"
	skipped    = "skip"
	unfinished = "DID NOT END"
)

// A test is one of a run. Subtests are told only where they failed or were skipped.
type test struct {
	Name    string  `json:"test"`
	Seconds float64 `json:"seconds"`
	Verdict string  `json:"verdict"`
	Why     string  `json:"why,omitempty"` // of one that was skipped or failed
	said    string  // last line of its log
}

func (t test) sub() bool { return strings.Contains(t.Name, "/") }

// event is a line of go test -json (go doc test2json).
type event struct {
	Action, Test, Output string
	Elapsed              float64
}

// read takes the events apart and writes their text to w. passed reports whether go test itself passed, and did so
// for at least one package.
func read(in io.Reader, w io.Writer) (tests []test, ok bool, err error) {
	byName, packages, bad := map[string]int{}, 0, false
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			e = event{Action: "output", Output: lines.Text() + "\n"} // of the go command itself
		}
		if _, err := io.WriteString(w, e.Output); err != nil {
			return nil, false, err
		}
		bad = bad || e.Action == "fail" || e.Action == "build-fail"
		if e.Test == "" {
			if e.Action == "pass" {
				packages++
			}
			continue
		}
		i, known := byName[e.Test]
		if !known {
			i = len(tests)
			byName[e.Test] = i
			tests = append(tests, test{Name: e.Test, Verdict: unfinished})
		}
		tests[i].take(e)
	}
	return shown(tests), packages > 0 && !bad, lines.Err()
}

// shown leaves out subtests that passed.
func shown(tests []test) []test {
	var out []test
	for _, t := range tests {
		if !t.sub() || t.Verdict != passed {
			out = append(out, t)
		}
	}
	return out
}

func (t *test) take(e event) {
	switch e.Action {
	case "output":
		if said := logLine.FindStringSubmatch(e.Output); said != nil {
			t.said = said[1]
		}
		return
	case "pass":
		t.Verdict = passed
	case "fail":
		t.Verdict, t.Why = failed, t.said
	case "skip":
		t.Verdict, t.Why = skipped, t.said
	default:
		return
	}
	t.Seconds = e.Elapsed
}

// logLine is a line of t.Log: FILE:LINE: TEXT.
var logLine = regexp.MustCompile(`^\s+\S+\.go:\d+: (.*?)\s*$`)
