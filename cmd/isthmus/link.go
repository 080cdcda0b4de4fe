package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// linkFlags are the flags of link and unlink.
type linkFlags struct {
	out     output
	opts    clusterset.LinkOptions
	timeout time.Duration
}

func newLinkCommand(e *env) *cobra.Command {
	var f linkFlags
	cmd := &cobra.Command{
		Use:   "link CONTEXT CONTEXT...",
		Short: "Link clusters, every pair both ways, and prove it",
		Long: `Let each cluster read the others: check both sides first, make an account that may only list and watch, write its
token and a ClusterLink, and wait until the control planes have proved API server, sync and gateway.
It may be run again; an expired token is replaced by that.`,
		Example: `  isthmus link east west
  isthmus link hub spoke1 spoke2 --one-way
  isthmus link kind-a kind-b --server kind-b=https://172.18.0.3:6443`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: e.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runLink(cmd.Context(), e, f, args)
		},
	}
	addOutput(cmd, &f.out)
	flags := cmd.Flags()
	flags.BoolVar(&f.opts.OneWay, "one-way", false, "let only the first cluster read the others")
	flags.StringToStringVar(&f.opts.Servers, "server", nil, "CONTEXT=URL: an API server's address that works from inside the other clusters")
	flags.StringSliceVar(&f.opts.AllowServers, "allow-server", nil, "API servers to accept although they are on loopback; for tests")
	flags.DurationVar(&f.timeout, "timeout", 2*time.Minute, "how long to wait until all is proved")
	return cmd
}

func runLink(ctx context.Context, e *env, f linkFlags, contexts []string) error {
	clusters, err := e.open(contexts)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	p := newProgress(e.Streams)
	links, err := doLink(ctx, f, clusters, func(step string) { p.say("", step) })
	if err != nil {
		return err
	}
	if f.out == outputJSON {
		return printJSON(e.Out, map[string]any{"links": links})
	}
	for _, l := range links {
		fmt.Fprintf(e.Out, "%s reads %s: %s\n", l.From, l.To, l.State)
	}
	_, err = fmt.Fprintln(e.Out, "next: isthmus export NAMESPACE/NAME --context CONTEXT")
	return err
}

// doLink is link without its printing; the demo uses it too.
func doLink(ctx context.Context, f linkFlags, clusters []*cluster.Cluster, step func(string)) ([]clusterset.Linked, error) {
	step("check all clusters")
	opts := f.opts
	opts.Clusters, opts.Progress = clusters, step
	return clusterset.Link(ctx, opts)
}

func newUnlinkCommand(e *env) *cobra.Command {
	var f linkFlags
	cmd := &cobra.Command{
		Use:   "unlink CONTEXT CONTEXT...",
		Short: "End the links between clusters, both ways",
		Long: `Remove the remote secrets, the ClusterLinks and the accounts, so that the tokens are worth nothing. What is not there is
no error. A cluster that will not come back is named by --gone, by its name in the clusterset.`,
		Example: `  isthmus unlink east west
  isthmus unlink hub spoke1 --one-way
  isthmus unlink east --gone west`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: e.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args)+len(f.opts.Gone) < 2 {
				return withHint(usageErrorf("a link has two ends, and only %s is named", args[0]), cmd.CommandPath()+" --help")
			}
			clusters, err := e.open(args)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			f.opts.Clusters = clusters
			ended, err := clusterset.Unlink(ctx, f.opts)
			if err != nil {
				return err
			}
			return finish(true, f.out, e.Out, map[string]any{"unlinked": ended}, func(w io.Writer) error {
				for _, l := range ended {
					fmt.Fprintf(w, "%s no longer reads %s\n", l.From, l.To)
				}
				return nil
			})
		},
	}
	addOutput(cmd, &f.out)
	cmd.Flags().BoolVar(&f.opts.OneWay, "one-way", false, "only that the first reads the others")
	cmd.Flags().StringSliceVar(&f.opts.Gone, "gone", nil, "names of clusters that cannot be reached any more")
	cmd.Flags().DurationVar(&f.timeout, "timeout", time.Minute, "how long it may take")
	return cmd
}
