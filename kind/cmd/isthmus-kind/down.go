package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/kind/nodeimage"
)

func newDown(e *env) *cobra.Command {
	var purge, keep bool
	cmd := &cobra.Command{
		Use: "down", Short: "Delete the clusters; stop the Docker engine that up started", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := e.down(cmd.Context(), keep, purge); err != nil {
				return err
			}
			if !purge {
				e.progress.Say("", "kept for the next time: %s and %s (PURGE=1 removes them)", e.cacheDir, e.data)
				return nil
			}
			return errors.Join(e.engine().Remove(), os.RemoveAll(e.cacheDir))
		},
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "remove what was built, too: the next time it is built anew")
	cmd.Flags().BoolVar(&keep, "keep-engine", false, "leave the Docker engine running")
	return cmd
}

// down takes down what is up, whatever topology was named.
func (e *env) down(ctx context.Context, keep, purge bool) error {
	if name := e.isUp(); name != "" {
		e.topology = name
	}
	lab, err := e.lab()
	if err != nil {
		return err
	}
	if exec.CommandContext(ctx, "docker", "version").Run() != nil {
		e.progress.Say("docker", "no engine runs, so no clusters do")
		return os.RemoveAll(e.state())
	}
	if err := errors.Join(lab.Down(ctx), os.RemoveAll(e.state())); err != nil {
		return err
	}
	if purge { // an engine that is not ours keeps its data
		if err := nodeimage.Remove(ctx); err != nil {
			return err
		}
	}
	others, err := lab.Others()
	switch {
	case err != nil:
		return err
	case len(others) > 0:
		e.progress.Say("docker", "left running for other clusters: %v", others)
		return nil
	}
	if err := e.engine().RestoreWatches(); err != nil {
		return fmt.Errorf("restore the machine's limit: %w", err)
	}
	if keep {
		return nil
	}
	if _, err := e.engine().Stop(ctx); err != nil {
		return fmt.Errorf("stop the engine: %w", err)
	}
	return nil
}
