package corefile

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

const zone = "clusterset.local"

// Each file says by its first line what it proves: before becomes after, which stays as it is and
// becomes before again; what was changed since is restored to what the user made of it.
func TestEdit(t *testing.T) {
	for name, c := range cases(t) {
		t.Run(name, func(t *testing.T) {
			roundTrip(t, c["before"], c["after"])
			if c["changed"] == "" {
				return
			}
			got, err := Restore(c["changed"], c["before"], zone)
			if err != nil || got != c["restored"] {
				t.Errorf("restored, %v:\n%s", err, got)
			}
		})
	}
}

func cases(t testing.TB) map[string]map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("cases: %d, %v", len(files), err)
	}
	out := map[string]map[string]string{}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parts := map[string]string{}
		for _, f := range archive.Files {
			parts[f.Name] = string(f.Data)
		}
		out[strings.TrimSuffix(filepath.Base(file), ".txtar")] = parts
	}
	return out
}

func roundTrip(t *testing.T, before, want string) {
	t.Helper()
	after, added, err := edit(before, zone)
	if err != nil || want != "" && after != want {
		t.Fatalf("edit, %v:\n%s", err, after)
	}
	if again, err := Edit(after, zone); err != nil || again != after {
		t.Errorf("edited twice, %v:\n%s", err, again)
	}
	if back, err := Restore(after, before, zone); err != nil || back != before {
		t.Errorf("restored, %v:\n%s", err, back)
	}
	if back, err := remove(after, zone, added); err != nil || back != before {
		t.Errorf("taken out word by word, %v:\n%s", err, back)
	}
}

// Lines of other systems' editors are kept.
func TestCarriageReturns(t *testing.T) {
	stock := cases(t)["stock"]
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	roundTrip(t, crlf(stock["before"]), crlf(stock["after"]))
}

// What cannot be changed safely is left alone, and the reason names the line.
func TestUnusual(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"empty", "", "no server block"},
		{"no braces", "kubernetes cluster.local\n", "line 1: a server block without braces"},
		{"not the root", "cluster.local {\nkubernetes cluster.local\n}\n", "no server block"},
		{"another plugin", ". {\nforward . 192.0.2.1\n}\n", "no server block"},
		{"in a snippet", "(k) {\nkubernetes cluster.local\n}\n. {\nimport k\n}\n", "no server block"},
		{"a block of its own", ". {\nkubernetes cluster.local\n}\nclusterset.local:53 {\nforward . 192.0.2.1\n}\n", "line 4: a block of its own"},
		{"two", ".:53 {\nkubernetes cluster.local\n}\n.:54 {\nkubernetes cluster.local\n}\n", "line 4: more than one"},
		{"twice", ". {\nkubernetes cluster.local\nkubernetes x\n}\n", "line 3: the kubernetes plugin is there twice"},
		{"no zone", ". {\nkubernetes\n}\n", "names no zone"},
		{"reverse zones", ". {\nkubernetes in-addr.arpa ip6.arpa\n}\n", "but reverse ones"},
		{"options twice", ". {\nkubernetes a {\nmulticluster b\nmulticluster c\n}\n}\n", "multicluster is there twice"},
		{"option without zone", ". {\nkubernetes a {\nmulticluster\n}\n}\n", "line 3: the option"},
		{"open brace", ". {\nkubernetes cluster.local {\n}\n", "line 1: a brace is not closed"},
		{"open quote", ". {\nkubernetes \"cluster.local\n}\n", "line 2: a quote"},
		{"one line", ". { kubernetes cluster.local }\n", "without braces"},
		{"brace in a line", ". {\nkubernetes cluster.local { pods insecure }\n}\n", "line 2: a brace within a line"},
		{"words after a brace", ". {\nkubernetes cluster.local {\n} reload\n}\n", "line 3: words after"},
		{"deep", ". {\n" + strings.Repeat("a {\n", 20), "nested"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Edit(tt.src, zone)
			if err == nil || !strings.Contains(err.Error(), tt.want) || got != "" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// Whatever can be edited can be restored, by the original and word by word, and nothing else changes.
func FuzzEdit(f *testing.F) {
	for _, c := range cases(f) {
		f.Add(c["before"])
		f.Add(c["after"])
		f.Add(c["changed"])
	}
	f.Add(". {\nkubernetes a\n}")
	f.Add(". {\n kubernetes a \"b c\" \\\" #x\n cache {\n disable denial a\n}}\n")
	f.Fuzz(func(t *testing.T, src string) {
		after, _, err := edit(src, zone)
		if err != nil {
			return
		}
		roundTrip(t, src, after)
		before, _ := lex(src) // was read a moment ago
		tokens, err := lex(after)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range before { // in order, with others between
			for len(tokens) > 0 && tokens[0].text != b.text {
				tokens = tokens[1:]
			}
			if len(tokens) == 0 {
				t.Fatalf("%q is lost from\n%s", b.text, after)
			}
			tokens = tokens[1:]
		}
	})
}

func TestReloads(t *testing.T) {
	for src, want := range map[string]bool{
		". {\nreload\n}\n": true, ". {\nerrors\n}\na {\nreload 2s\n}\n": true,
		". {\n# reload\n}\n": false, "(s) {\nreload\n}\n. {\n}\n": false, ". {\n": false,
	} {
		if got := Reloads(src); got != want {
			t.Errorf("%q: %v", src, got)
		}
	}
}
