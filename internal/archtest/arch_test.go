// Package archtest holds the rule of the tree: which folder may import which.
package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/isthmus-mesh/isthmus/"

// allowed names, for each top-level folder, the top-level folders of ours that
// it may import. Test files are free.
var allowed = map[string][]string{
	"api":        {},
	"fault":      {},
	"install":    {"api"},
	"trust":      {"api"},
	"federation": {"trust", "api"},
	"eastwest":   {"federation", "trust", "api"},
	"remote":     {"api", "trust", "install", "fault"},
	"primary":    {"api", "install", "trust", "federation", "eastwest", "remote"},
	"dataplane":  {"api", "trust", "fault"},
	"sandbox":    {"api", "install"},
	"drill":      {"api"},
	"samples":    {},
	"cmd":        {"api", "install", "fault", "trust", "federation", "eastwest", "remote", "primary", "dataplane", "sandbox", "drill", "samples"},
	"internal":   {"api", "install", "trust", "sandbox", "federation"},
	"e2e":        {"api", "install", "sandbox", "drill", "samples"},
}

type listed struct {
	ImportPath string
	Imports    []string
}

// The tree of docs/architecture.md holds: a folder imports only what its row names,
// and only tests import internal/.
func TestImports(t *testing.T) {
	for _, pkg := range list(t) {
		from := folder(pkg.ImportPath)
		may, known := allowed[from]
		if !known {
			t.Errorf("%s: folder %q has no row in the table", pkg.ImportPath, from)
			continue
		}
		for _, imp := range pkg.Imports {
			if to := folder(imp); strings.HasPrefix(imp, module) && to != from && !slices.Contains(may, to) {
				t.Errorf("%s imports %s: %q may import only %v", pkg.ImportPath, imp, from, may)
			}
		}
	}
}

func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	var all []listed
	for {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("read go list: %v", err)
		}
		all = append(all, p)
	}
}

func folder(path string) string {
	rest := strings.TrimPrefix(path, module)
	first, _, _ := strings.Cut(rest, "/")
	return first
}
