//go:build conformance

package conformance

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

var (
	kubeconfig = flag.String("kubeconfig", "", "kubeconfig file")
	contexts   = flag.String("contexts", "", "two contexts, the first exports: NAME,NAME")
	networks   = flag.String("networks", oneNetwork, "how the clusters are: one or separate")
	report     = flag.String("report", "", "file to write results to, as JSON")
)

// Values of -networks, and of a spec's Networks.
const (
	oneNetwork       = "one"
	separateNetworks = "separate"
)

// notRun is the result of a spec that -run leaves out.
const notRun = "not run"

// A spec is one rule. Required ones are those that the KEP demands of everyone.
type spec struct {
	Name     string `json:"name"`
	Section  string `json:"section"`            // of the rules that docs/mcs.md lists
	Networks string `json:"networks,omitempty"` // where it holds; empty means everywhere
	Required bool   `json:"required"`
	Result   string `json:"result"`
	run      func(f *fixture)
	setUp    func(f *fixture) // before anything is made; may be nil
}

// TestConformance runs all specs, some at a time, and prints the table.
func TestConformance(t *testing.T) {
	names := strings.Split(*contexts, ",")
	if len(names) != 2 || *networks != oneNetwork && *networks != separateNetworks {
		t.Fatal("want -contexts NAME,NAME and -networks one|separate")
	}
	specs := slices.DeleteFunc(allSpecs(), func(s spec) bool { return s.Networks != "" && s.Networks != *networks })
	t.Run("spec", func(t *testing.T) {
		for i := range specs {
			s := &specs[i]
			s.Result = notRun
			t.Run(fmt.Sprintf("§%s_%s", s.Section, strings.ReplaceAll(s.Name, " ", "_")), func(t *testing.T) {
				t.Parallel()
				s.Result = "fail"
				f := newFixture(t, names)
				if s.setUp != nil {
					s.setUp(f)
				}
				f.start()
				s.run(f)
				s.Result = "pass"
			})
		}
	})
	print(specs)
	write(t, specs)
}

func allSpecs() []spec {
	return slices.Concat(importSpecs(), familySpecs(), refusalSpecs(), conflictSpecs(), upheavalSpecs(), exportSpecs(), chosenSpecs(), sliceSpecs(), remoteSliceSpecs(),
		nameSpecs(), negativeSpecs(), connectSpecs(), portSpecs(), entrySpecs(), headlessSpecs(), failoverSpecs())
}

// print shows a line for each spec, failures last.
func print(specs []spec) {
	slices.SortStableFunc(specs, func(a, b spec) int {
		return cmp.Or(-cmp.Compare(a.Result, b.Result), cmp.Compare(b.level(), a.level()))
	})
	count := map[string]int{}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nRESULT\tLEVEL\tSECTION\tSPEC")
	for _, s := range specs {
		if s.Result == notRun {
			continue
		}
		count[s.level()+" "+s.Result]++
		fmt.Fprintf(w, "%s\t%s\t§%s\t%s\n", s.Result, s.level(), s.Section, s.Name)
	}
	_ = w.Flush()
	fmt.Printf("\nrequired: %d pass, %d fail; optional: %d pass, %d fail; networks: %s\n",
		count["required pass"], count["required fail"], count["optional pass"], count["optional fail"], *networks)
}

func (s spec) level() string {
	if s.Required {
		return "required"
	}
	return "optional"
}

func write(t *testing.T, specs []spec) {
	if *report == "" {
		return
	}
	data, err := json.MarshalIndent(specs, "", "  ")
	if err == nil {
		err = os.WriteFile(*report, append(data, '\n'), 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}
