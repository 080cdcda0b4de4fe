//go:build e2e

package e2e

import (
	"context"
	"io"
	"strings"

	"github.com/isthmus-mesh/isthmus/e2e/topology"
	"github.com/isthmus-mesh/isthmus/sandbox"
)

// sandboxGround is clusters of the sandbox, driven by isthmus sandbox.
type sandboxGround struct {
	topology topology.Topology
	dir      string
	cli      func(ctx context.Context, args ...string) (string, error) // runs isthmus
}

func (g *sandboxGround) up(ctx context.Context) (string, error) {
	var clusters []string
	for _, c := range g.topology.Clusters {
		clusters = append(clusters, c.Name+"="+c.Network)
	}
	if _, err := g.cli(ctx, "sandbox", "up", "--clusters", strings.Join(clusters, ",")); err != nil {
		return "", err
	}
	path, err := g.cli(ctx, "sandbox", "kubeconfig")
	return strings.TrimSpace(path), err
}

func (g *sandboxGround) down(ctx context.Context) error {
	_, err := g.cli(ctx, "sandbox", "down")
	return err
}

func (g *sandboxGround) installFlags() []string { return nil }

func (g *sandboxGround) cut(ctx context.Context, from, to, what, mode string) error {
	_, err := g.cli(ctx, "sandbox", "cut", from, to, "--what", what, "--mode", mode)
	return err
}

func (g *sandboxGround) heal(ctx context.Context) error {
	_, err := g.cli(ctx, "sandbox", "heal")
	return err
}

func (g *sandboxGround) capture(ctx context.Context, w io.Writer, started func()) error {
	sb, err := sandbox.Attach(g.dir)
	if err != nil {
		return err
	}
	return sb.Capture(ctx, w, started)
}

func (g *sandboxGround) memory(context.Context) (map[string]int64, error) { return nil, nil }
