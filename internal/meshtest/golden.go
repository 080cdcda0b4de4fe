package meshtest

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// Golden runs every txtar file that matches glob as a test of its own. A file
// begins with a sentence that says what it proves; its section "mesh" is given
// to produce, whose result must be the sections "want/...", none missing and
// none left over. Other orders of the same facts must give the same. With
// UPDATE=1 in the environment the files are rewritten.
func Golden(t *testing.T, glob string, produce func(t *testing.T, mesh string) map[string]string) {
	files, err := filepath.Glob(glob)
	if err != nil || len(files) == 0 {
		t.Fatalf("no files match %s: %v", glob, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			mesh, want := sections(archive)
			got := produce(t, mesh)
			for seed := range uint64(5) {
				if again := produce(t, Shuffled(mesh, seed)); !maps.Equal(got, again) {
					t.Fatalf("the order of facts matters (seed %d): %s", seed, cmp.Diff(got, again))
				}
			}
			if os.Getenv("UPDATE") != "" {
				rewrite(t, file, archive, got)
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", strings.TrimSpace(string(archive.Comment)), diff)
			}
		})
	}
}

func sections(a *txtar.Archive) (mesh string, want map[string]string) {
	want = map[string]string{}
	for _, f := range a.Files {
		if name, ok := strings.CutPrefix(f.Name, "want/"); ok {
			want[name] = string(f.Data)
		} else if f.Name == "mesh" {
			mesh = string(f.Data)
		}
	}
	return mesh, want
}

func rewrite(t *testing.T, file string, a *txtar.Archive, got map[string]string) {
	a.Files = slices.DeleteFunc(a.Files, func(f txtar.File) bool { return strings.HasPrefix(f.Name, "want/") })
	for _, name := range slices.Sorted(maps.Keys(got)) {
		a.Files = append(a.Files, txtar.File{Name: "want/" + name, Data: []byte(got[name])})
	}
	if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}
