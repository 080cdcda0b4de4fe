package main

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	if name := e.isUp(); name != "" && name != e.topology {
		return fmt.Errorf("topology %s is up, whose clusters have the same names: make kind-down first", name)
	}
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
	if err := errors.Join(os.MkdirAll(e.state(), 0o755), os.WriteFile(e.upFile(), []byte(e.topology), 0o644)); err != nil {
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
	e.progress.Say("node image", "kind's own cannot be pulled: using one made of Debian packages and Go modules, some 10 minutes to build the first time (%v)", err)
	builder := nodeimage.Builder{Root: e.root, Cache: e.cache(), Progress: e.progress}
	return builder.Ensure(ctx)
}
