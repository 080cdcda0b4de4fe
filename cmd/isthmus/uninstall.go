package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/install"
)

func newUninstallCommand(e *env) *cobra.Command {
	var out output
	var opts install.UninstallOptions
	var timeout time.Duration
	var verbose bool
	var revision string
	cmd := &cobra.Command{
		Use:   "uninstall CONTEXT...",
		Short: "Remove the mesh from clusters",
		Long: `End the links between these clusters, and to others of the kubeconfig that answer; remove the webhook first, so that no pod waits for it, then all else that install and the control plane wrote.
Pods keep their sidecars until they are restarted. The clusterset's root on this machine stays.`,
		Example: `  isthmus uninstall east west
  isthmus uninstall east --revision canary     (that control plane and its webhook, nothing else)
  isthmus uninstall east --purge      (the definitions too, and with them every ServiceExport and ClusterLink)`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: e.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			if revision != "" {
				clusters, err := e.open(args)
				if err != nil {
					return err
				}
				return uninstallRevision(ctx, e, revision, clusters, out)
			}
			return runUninstall(ctx, e, opts, args, out, verbose)
		},
	}
	addOutput(cmd, &out)
	cmd.Flags().BoolVar(&opts.Purge, "purge", false, "remove the CRDs too, and with them all objects of theirs")
	cmd.Flags().StringVar(&revision, "revision", "", "remove only the further control plane of this name")
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
	neighbours, err := e.others(contexts)
	if err != nil {
		return err
	}
	removed, err := clusterset.Uninstall(ctx, clusters, neighbours, opts, func(cluster, step string) {
		if verbose {
			p.say(cluster, step)
		}
	})
	if err != nil {
		return err
	}
	return finish(true, out, e.Out, map[string]any{"uninstalled": removed, "purged": opts.Purge}, func(w io.Writer) error {
		for _, r := range removed {
			printRemoved(w, r)
		}
		return nil
	})
}

// others opens the contexts of the kubeconfig that are not among those given; one that cannot be opened is left out.
func (e *env) others(given []string) ([]*cluster.Cluster, error) {
	names, err := cluster.Contexts(e.kubeconfig)
	if err != nil {
		return nil, err
	}
	var out []*cluster.Cluster
	for _, name := range names {
		if slices.Contains(given, name) {
			continue
		}
		if c, err := cluster.Open(e.kubeconfig, name); err == nil {
			out = append(out, c)
		}
	}
	return out, nil
}

func printRemoved(w io.Writer, r clusterset.Removed) {
	if r.Before {
		fmt.Fprintf(w, "context %s: removed\n", r.Context)
	} else {
		fmt.Fprintf(w, "context %s: was not installed\n", r.Context)
	}
	if r.Before && !r.Purged {
		fmt.Fprintln(w, "  the definitions stay, with every ServiceExport; --purge removes them")
	}
	for _, ns := range r.Sidecars {
		fmt.Fprintf(w, "  to do: pods keep their sidecars until they are restarted: kubectl --context %s -n %s rollout restart deployment\n", r.Context, ns)
	}
	for _, context := range r.Ended {
		fmt.Fprintf(w, "  ended what cluster of context %s had with it\n", context)
	}
	for _, l := range r.Links {
		fmt.Fprintf(w, "  to do: cluster %s was linked to it, and may be still: isthmus unlink CONTEXT-OF-%s %s\n", l, l, r.Context)
	}
}
