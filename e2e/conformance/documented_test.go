//go:build conformance

package conformance

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

var (
	caller = regexp.MustCompile(` \(pod with(out)? sidecar\)$`)
	quoted = regexp.MustCompile(`"([^"]+)"`)
)

// docs/mcs.md names each spec, and none that is not there.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/mcs.md")
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile(`(?s)\n## 1\..*\n## The upstream`).Find(page)
	var named, specs []string
	for _, m := range quoted.FindAllSubmatch(table, -1) {
		named = append(named, string(m[1]))
	}
	for _, s := range allSpecs() {
		specs = append(specs, caller.ReplaceAllString(s.Name, ""))
		if !slices.Contains(named, specs[len(specs)-1]) {
			t.Errorf("docs/mcs.md does not name %q of section %s", s.Name, s.Section)
		}
	}
	for _, n := range named {
		if !slices.Contains(specs, n) {
			t.Errorf("docs/mcs.md names %q, which is no spec", n)
		}
	}
}
