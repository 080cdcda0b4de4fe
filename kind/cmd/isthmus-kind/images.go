package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/kind/images"
)

func newImages(e *env) *cobra.Command {
	opts := images.Options{Programs: []string{"isthmusd", "isthmus-proxy", "isthmus-samples"}}
	cmd := &cobra.Command{
		Use: "images", Short: "Make an image and a bill of materials of each program in bin/, into bin/images/", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			opts.Bin, opts.Out = e.bin(), filepath.Join(e.bin(), "images")
			archives, err := images.Write(opts)
			for _, a := range archives {
				e.progress.Say("images", "%s", a)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&opts.Hub, "hub", "isthmus-mesh", "repository, as the chart's image.hub")
	cmd.Flags().StringVar(&opts.Tag, "tag", "dev", "tag, as the chart's image.tag")
	return cmd
}

func newLoad(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "load ARCHIVE...", Short: "Load image archives into every node of a topology", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			lab, err := e.lab()
			if err != nil {
				return err
			}
			return lab.Load(args)
		},
	}
}
