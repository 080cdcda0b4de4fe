//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// mesh is the linked clusters that all tests share: made once by
// TestMain, never changed after.
var mesh *Mesh

// TestMain installs the mesh in the clusters of a topology and links them as a user would, on the ground that the
// environment names (readSettings). ISTHMUS_E2E_DIR keeps the state directory and the clusters for the next run.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	s, err := readSettings()
	if err == nil && s.ground == "kind" && s.dir == "" {
		s.dir, err = filepath.Abs("../bin/kind/e2e") // goes with the clusters
	}
	keep := s.dir != ""
	if err == nil && !keep {
		s.dir, err = os.MkdirTemp("", "isthmus-e2e-")
		defer os.RemoveAll(s.dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	s.dir = filepath.Clean(s.dir)
	mesh, err = Start(ctx, s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bring the clusters up:", err)
		if mesh != nil && mesh.Kubeconfig != "" {
			mesh.Explain(os.Stderr)
		}
	}
	code := 1
	if err == nil {
		code = m.Run()
		mesh.Tell()
	}
	if mesh != nil && !keep {
		mesh.Down()
	}
	return code
}
