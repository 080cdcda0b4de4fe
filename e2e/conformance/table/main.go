// Command table prints the report that a Ginkgo test program writes as JSON as a
// line for each spec: its result, whether it is required, and its name.
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: table REPORT.json")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(path string, out io.Writer) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read report: %w", err)
	}
	specs, err := parse(data)
	if err != nil {
		return fmt.Errorf("read report %s: %w", path, err)
	}
	return write(out, specs)
}

// A spec is what the report says of one test.
type spec struct{ result, level, name string }

// parse reads what of Ginkgo's report is needed here.
func parse(data []byte) ([]spec, error) {
	var suites []struct {
		SpecReports []struct {
			ContainerHierarchyTexts  []string
			ContainerHierarchyLabels [][]string
			LeafNodeType             string
			LeafNodeText             string
			LeafNodeLabels           []string
			State                    string
		}
	}
	if err := json.Unmarshal(data, &suites); err != nil {
		return nil, err
	}
	var out []spec
	for _, suite := range suites {
		for _, r := range suite.SpecReports {
			if r.LeafNodeType != "It" {
				continue
			}
			labels := append(slices.Concat(r.ContainerHierarchyLabels...), r.LeafNodeLabels...)
			level := "optional"
			if slices.Contains(labels, "Required") {
				level = "required"
			}
			name := strings.Join(strings.Fields(strings.Join(append(r.ContainerHierarchyTexts, r.LeafNodeText), " ")), " ")
			out = append(out, spec{r.State, level, name})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no spec in it")
	}
	return out, nil
}

func write(out io.Writer, specs []spec) error {
	slices.SortStableFunc(specs, func(a, b spec) int {
		return cmp.Or(-cmp.Compare(a.level, b.level), cmp.Compare(a.result, b.result))
	})
	passed, all := map[string]int{}, map[string]int{}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RESULT\tLEVEL\tSPEC")
	for _, s := range specs {
		all[s.level]++
		if s.result == "passed" {
			passed[s.level]++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.result, s.level, s.name)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nrequired: %d of %d passed; optional: %d of %d passed\n", passed["required"], all["required"], passed["optional"], all["optional"])
	return err
}
