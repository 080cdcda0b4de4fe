package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/install"
)

func newUninstallCommand(e *env) *cobra.Command {
	var out output
	var opts install.UninstallOptions
	var timeout time.Duration
	var verbose bool
	cmd := &cobra.Command{
		Use:   "uninstall CONTEXT...",
		Short: "Remove the mesh from clusters",
		Long: `End the links between these clusters; remove the webhook first, so that no pod waits for it, then all else that install and the control plane wrote.
Pods keep their sidecars until they are restarted. The clusterset's root on this machine stays.`,
		Example: `  isthmus uninstall east west
  isthmus uninstall east --purge      (the definitions too, and with them every ServiceExport and ClusterLink)`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: e.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return runUninstall(ctx, e, opts, args, out, verbose)
		},
	}
	addOutput(cmd, &out)
	cmd.Flags().BoolVar(&opts.Purge, "purge", false, "remove the CRDs too, and with them all objects of theirs")
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Minute, "how long to wait until all is gone")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "say each object")
	return cmd
}

func runUninstall(ctx context.Context, e *env, opts install.UninstallOptions, contexts []string, out output, verbose bool) error {
	clusters, err := e.open(contexts)
	if err != nil {
		return err
	}
	p := newProgress(e.Streams)
	p.say("", "remove the mesh from "+joinWords(contexts))
	if err := clusterset.Uninstall(ctx, clusters, opts, func(cluster, step string) {
		if verbose {
			p.say(cluster, step)
		}
	}); err != nil {
		return err
	}
	if out == outputJSON {
		return printJSON(e.Out, map[string]any{"uninstalled": contexts, "purged": opts.Purge})
	}
	for _, c := range clusters {
		fmt.Fprintf(e.Out, "context %s: removed\n", c.Context)
	}
	return nil
}
