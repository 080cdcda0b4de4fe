package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/isthmus-mesh/isthmus/sandbox"
)

// lab is the sandbox as the demo and the drills use it.
type lab struct {
	progress *progress
	dir      string
	sandbox  *sandbox.Sandbox // nil until up
}

// newLab is the sandbox in $ISTHMUS_SANDBOX_DIR, else in its usual place.
func newLab(p *progress) *lab {
	return &lab{progress: p, dir: cmp.Or(os.Getenv("ISTHMUS_SANDBOX_DIR"), sandbox.DefaultDir())}
}

// up starts the demo's two clusters, or finds them running, and returns their kubeconfig.
func (l *lab) up(ctx context.Context) (kubeconfig string, err error) {
	l.sandbox, err = sandbox.Up(ctx, sandbox.Options{
		Clusters: []sandbox.Cluster{{Name: demoEast}, {Name: demoWest}},
		Dir:      l.dir,
		Progress: func(e sandbox.Event) { l.progress.say("", "  "+prefixed(e.Cluster, e.Step)) },
	})
	if err != nil {
		return "", err
	}
	return l.sandbox.Kubeconfig(), nil
}

// home is where the demo's clusterset keeps its root: beside the sandbox, and gone with it.
func (l *lab) home() string { return l.dir + ".clusterset" }

// down stops the sandbox and removes what the demo kept; what is not there is no error.
func (l *lab) down(ctx context.Context) error {
	if err := sandbox.Down(ctx, l.dir); err != nil {
		return fmt.Errorf("stop the sandbox: %w", err)
	}
	if err := os.RemoveAll(filepath.Clean(l.home())); err != nil {
		return fmt.Errorf("remove the demo's clusterset: %w", err)
	}
	return nil
}

func prefixed(where, what string) string {
	if where == "" {
		return what
	}
	return where + ": " + what
}
