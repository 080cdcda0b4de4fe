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

// TestMain brings three clusters up on three networks, installs and links them as a
// user would, and takes them down. ISTHMUS_E2E_DIR keeps the state directory
// and the clusters for the next run.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, keep := os.Getenv("ISTHMUS_E2E_DIR"), true
	if dir == "" {
		keep = false
		var err error
		if dir, err = os.MkdirTemp("", "isthmus-e2e-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	var err error
	mesh, err = Start(ctx, filepath.Clean(dir))
	if err != nil {
		fmt.Fprintln(os.Stderr, "bring the clusters up:", err)
		if mesh != nil {
			mesh.Explain(os.Stderr)
			mesh.Down()
		}
		return 1
	}
	code := m.Run()
	if !keep {
		mesh.Down()
	}
	return code
}
