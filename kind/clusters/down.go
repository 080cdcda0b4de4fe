package clusters

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/kind/engine"
	"github.com/isthmus-mesh/isthmus/kind/topology"
)

// Down deletes those clusters of the topology that are there, and the
// kubeconfig. What is not there is no error.
func (l Lab) Down(ctx context.Context) error {
	have, err := l.provider("kind").List()
	if err != nil {
		return fmt.Errorf("list clusters: %w", err)
	}
	scratch, err := os.MkdirTemp("", "isthmus-kind-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	err = l.each(func(c topology.Cluster) error {
		if !slices.Contains(have, c.Name) {
			return nil
		}
		l.Progress.Say(c.Name, "deleting")
		return l.provider(c.Name).Delete(c.Name, filepath.Join(scratch, c.Name))
	})
	if err := errors.Join(err, os.RemoveAll(l.Kubeconfig)); err != nil {
		return err
	}
	return l.removeNetwork(ctx)
}

// Others lists kind's clusters on this engine that are not of the topology.
func (l Lab) Others() ([]string, error) {
	have, err := l.provider("kind").List()
	if err != nil {
		return nil, fmt.Errorf("list clusters: %w", err)
	}
	return slices.DeleteFunc(have, func(name string) bool {
		return slices.ContainsFunc(l.Topology.Clusters, func(c topology.Cluster) bool { return c.Name == name })
	}), nil
}

// Memory says what each node uses now.
func (l Lab) Memory(ctx context.Context) error {
	for _, c := range l.Topology.Clusters {
		out, err := engine.Output(ctx, "docker", "stats", "--no-stream", "--format", "memory {{.MemUsage}}, cpu {{.CPUPerc}}", Node(c))
		if err != nil {
			return err
		}
		l.Progress.Say(c.Name, "%s", strings.TrimSpace(out))
	}
	return nil
}
