// Command report reads what `go test -json` prints, passes on the text of it, and prints a table at the end: each
// test, its seconds and what became of it. It fails where a test failed or did not end.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
)

// options are the flags.
type options struct {
	facts string  // file that the tests wrote about their run; absent where they did not get that far
	out   string  // file for the report as JSON; empty writes none
	up    float64 // seconds that bringing the clusters up took before the tests; 0 says nothing
}

func main() {
	var o options
	flag.StringVar(&o.facts, "facts", "", "file with what the tests say about their run")
	flag.StringVar(&o.out, "out", "", "file for the report as JSON")
	flag.Float64Var(&o.up, "up", 0, "seconds that bringing up the clusters took")
	flag.Parse()
	ok, err := run(o, os.Stdin, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// run passes text on to text and prints the table to table; ok means that every test passed or was skipped.
func run(o options, in io.Reader, text, table io.Writer) (ok bool, err error) {
	tests, passed, err := read(in, text)
	if err != nil {
		return false, fmt.Errorf("read the events of go test: %w", err)
	}
	r := report{Tests: tests, Passed: passed}
	if o.up > 0 {
		r.Start = []step{{"make kind-up", o.up}}
	}
	if err := r.addFacts(o.facts); err != nil {
		return false, err
	}
	if err := r.print(table); err != nil {
		return false, err
	}
	return r.ok(), r.write(o.out)
}

// A report is a run.
type report struct {
	Ground   string           `json:"ground"`
	Topology string           `json:"topology"`
	Start    []step           `json:"start"`            // in order
	Memory   map[string]int64 `json:"memory,omitempty"` // by node, in bytes
	Tests    []test           `json:"tests"`            // in the order they began
	Passed   bool             `json:"passed"`           // what go test itself said
}

type step struct {
	What    string  `json:"what"`
	Seconds float64 `json:"seconds"`
}

// addFacts joins what the tests said about their run.
func (r *report) addFacts(path string) error {
	if path == "" {
		return nil
	}
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil // the tests ended before they could tell; the table shows which
	}
	if err != nil {
		return err
	}
	var facts report
	if err := json.Unmarshal(data, &facts); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	r.Ground, r.Topology, r.Memory = facts.Ground, facts.Topology, facts.Memory
	r.Start = append(r.Start, facts.Start...)
	return nil
}

func (r *report) ok() bool { return r.Passed && r.count(failed)+r.count(unfinished) == 0 }

func (r *report) write(path string) error {
	if path == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
