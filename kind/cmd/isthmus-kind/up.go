package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/kind/clusters"
	"github.com/isthmus-mesh/isthmus/kind/nodeimage"
)

func newUp(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "up", Short: "Bring a topology's clusters up, with our images in them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			lab, err := e.lab()
			if err != nil {
				return err
			}
			if err := e.up(cmd.Context(), lab); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "export KUBECONFIG=%s\n", lab.Kubeconfig)
			return nil
		},
	}
}

func (e *env) up(ctx context.Context, lab clusters.Lab) error {
	archives, err := filepath.Glob(filepath.Join(e.bin(), "images", "*.tar"))
	if err != nil {
		return err
	}
	if err := e.startEngine(ctx); err != nil {
		return err
	}
	if lab.Image, err = e.nodeImage(ctx); err != nil {
		return err
	}
	if err := lab.Up(ctx); err != nil {
		return err
	}
	if err := lab.Load(archives); err != nil {
		return err
	}
	return lab.Memory(ctx)
}

// startEngine makes sure that privileged containers run.
func (e *env) startEngine(ctx context.Context) error {
	step, err := nodeimage.NodeProgram(e.root)
	if err != nil {
		return err
	}
	dir, err := e.cache().Ensure(ctx, step)
	if err != nil {
		return err
	}
	engine := e.engine()
	engine.Node = filepath.Join(dir, "isthmus-node")
	if err := engine.Ensure(ctx); err != nil {
		return err
	}
	return engine.RaiseWatches()
}

// nodeImage returns the image to use: the one given, kind's own, or ours.
func (e *env) nodeImage(ctx context.Context) (string, error) {
	if e.image != "" {
		return e.image, nil
	}
	stock, err := nodeimage.Pull(ctx, e.progress)
	if err == nil {
		return stock, nil
	}
	e.progress.Say("node image", "%s cannot be pulled: building one from Debian packages and Go modules, some 10 minutes the first time (%v)", stock, err)
	builder := nodeimage.Builder{Root: e.root, Cache: e.cache(), Progress: e.progress}
	return builder.Ensure(ctx)
}
