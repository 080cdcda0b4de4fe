package ingest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
)

func TestParseExportTo(t *testing.T) {
	got, bad := parseExportTo(" west, north,west ")
	if !slices.Equal(got, []federation.ClusterName{"north", "west"}) || bad != "" {
		t.Errorf("%v %q", got, bad)
	}
	many := make([]string, maxExportTo+1)
	for i := range many {
		many[i] = fmt.Sprint("c", i)
	}
	if got, bad := parseExportTo(strings.Join(many[1:], ",")); len(got) != maxExportTo || bad != "" {
		t.Errorf("%d names: %s", len(got), bad)
	}
	for _, text := range []string{"", " ", ",", "west,", "West", "a.b", "*", strings.Repeat("x", 64), strings.Join(many, ",")} {
		if got, bad := parseExportTo(text); got != nil || bad == "" || len(bad) > 300 {
			t.Errorf("%q gives %v: %q", text, got, bad)
		}
	}
}

func FuzzParseExportTo(f *testing.F) {
	f.Add("west,north")
	f.Fuzz(func(t *testing.T, text string) {
		got, bad := parseExportTo(text)
		if (bad == "") == (len(got) == 0) || !slices.IsSorted(got) {
			t.Fatalf("%v %q", got, bad)
		}
		for _, name := range got {
			if !label(string(name)) {
				t.Fatalf("name %q", name)
			}
		}
	})
}
