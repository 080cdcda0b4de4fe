package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/draining"
)

func newDrainCommand(e *env) *cobra.Command {
	var out output
	var o draining.Options
	var dryRun, byPeers bool
	cmd := &cobra.Command{
		Use:   "drain CLUSTER",
		Short: "Move traffic away from a cluster, let connections end, and say when it is empty",
		Long: `Tell all clusters to use the endpoints of CLUSTER, a context or a cluster's name, only where nobody else is left; its own
callers of exported services move too. Nothing is removed: what nobody else serves is served still. Then wait until its
sidecars and gateways have no traffic left that moves, and say so. Proxies renew connections within 30 s.

What will not move is listed, by --dry-run before anything is changed. Where the others have fewer endpoints it is refused
without --force. It may be interrupted and run again: the cluster goes on draining. The exit code is 3 when, after
--timeout, something is left that should have moved.`,
		Example: `  isthmus drain west --dry-run
  isthmus drain west --timeout 5m
  isthmus drain west --by-peers         its API server does not answer: the others keep away from it
  isthmus undrain west`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: e.completeOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runDrain(cmd.Context(), e, args[0], out, o, dryRun, byPeers)
		},
	}
	addOutput(cmd, &out)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would move and what not, and whether it is safe")
	cmd.Flags().BoolVar(&byPeers, "by-peers", false, "tell each other cluster by its own ClusterLink, not the cluster itself")
	cmd.Flags().BoolVar(&o.Force, "force", false, "also where the others have fewer endpoints, or are not all well")
	cmd.Flags().DurationVar(&o.Timeout, "timeout", 2*time.Minute, "how long to wait until it is empty")
	return cmd
}

func runDrain(ctx context.Context, e *env, name string, out output, o draining.Options, dryRun, byPeers bool) error {
	target, err := draining.Find(ctx, e.kubeconfig, name)
	if err != nil {
		return err
	}
	plan, err := draining.Prepare(ctx, target, byPeers)
	if err != nil {
		return drainError(err)
	}
	if dryRun {
		if err := finish(true, out, e.Out, plan, plan.Print); err != nil {
			return err
		}
		return drainError(plan.Safe(o.Force))
	}
	p := newProgress(e.Streams)
	for _, f := range plan.Findings {
		p.say("", f.String())
	}
	o.Progress = func(step string) { p.say("", step) }
	result, err := plan.Run(ctx, o)
	if err != nil {
		return drainError(err)
	}
	return finish(result.Moved, out, e.Out, result, result.Print)
}

func newUndrainCommand(e *env) *cobra.Command {
	var out output
	var o draining.Options
	cmd := &cobra.Command{
		Use:   "undrain CLUSTER",
		Short: "Bring the traffic of a drained cluster back, in steps",
		Long: `Give CLUSTER, a context or a cluster's name, a share of its usual traffic that rises in steps. A step is taken only while
the other clusters' links to it are Connected. It may be interrupted: the share stays as it is, and the next run goes on
from there. Callers without a sidecar come back by the shares of the entry gateway, and where there is none in between with
the last step.`,
		Example: `  isthmus undrain west
  isthmus undrain west --over 10m --steps 1,5,25,50,100
  isthmus undrain west --steps 100      all at once`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: e.completeOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := draining.CheckSteps(o.Steps); err != nil {
				return withHint(usageError{err}, cmd.CommandPath()+" --steps 10,25,50,100")
			}
			if o.Over < 0 {
				return usageErrorf("--over %s is less than nothing", o.Over)
			}
			p := newProgress(e.Streams)
			o.Progress = func(step string) { p.say("", step) }
			target, err := draining.Find(cmd.Context(), e.kubeconfig, args[0])
			if err != nil {
				return err
			}
			result, err := draining.Return(cmd.Context(), target, o)
			if err != nil {
				return drainError(err)
			}
			return finish(true, out, e.Out, result, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, result.Say())
				return err
			})
		},
	}
	addOutput(cmd, &out)
	cmd.Flags().DurationVar(&o.Over, "over", time.Minute, "how long the steps take together")
	cmd.Flags().IntSliceVar(&o.Steps, "steps", []int{10, 25, 50, 100}, "shares in per cent, rising to 100")
	cmd.Flags().BoolVar(&o.Force, "force", false, "also where links to it are not Connected")
	return cmd
}

// drainError adds what can be done.
func drainError(err error) error {
	if next := draining.Next(err); err != nil && next != "" {
		return withHint(err, next)
	}
	if errors.Is(err, draining.ErrSteps) {
		return usageError{err}
	}
	return err
}

// completeOne offers contexts for a single argument.
func (e *env) completeOne(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return e.complete(cmd, args, typed)
}
