package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/demo"
	"github.com/isthmus-mesh/isthmus/drill"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// demoFlags are the flags of demo.
type demoFlags struct {
	out     output
	keep    bool
	rate    float64
	timeout time.Duration
	verbose bool
}

// The demo's clusters.
const (
	demoEast = "east"
	demoWest = "west"
)

func newDemoCommand(e *env) *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Two clusters on this machine, linked; a call between them; a failover with a verdict",
		Long: `Start two real Kubernetes clusters on two networks on this machine, without Docker; install the mesh in both and link
them; run Bookinfo with sidecars; follow one request from east to west through the east-west gateway, and one of a pod without a sidecar
through the entry gateway; lose the reviews
of east under load, measure the failover and the way back. The exit code is 0 only if the verdict is pass.`,
		Example: `  isthmus demo
  isthmus demo --keep            the clusters stay: isthmus sandbox status
  isthmus demo -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), e, f)
		},
	}
	addOutput(cmd, &f.out)
	cmd.Flags().BoolVar(&f.keep, "keep", false, "leave the clusters running")
	cmd.Flags().Float64Var(&f.rate, "rate", 50, "requests per second of the drill")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 15*time.Minute, "for everything")
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "say each object")
	return cmd
}

func runDemo(ctx context.Context, e *env, f demoFlags) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	p := newProgress(e.Streams)
	lab := newLab(p)
	report, err := demo.Run(ctx, demoOptions(lab, p, f))
	if !f.keep {
		downCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		p.say("", "stop the clusters")
		err = errors.Join(err, lab.down(downCtx))
	}
	printErr := finish(report.Verdict == drill.Pass, f.out, e.Out, report, func(w io.Writer) error {
		if err != nil {
			return nil // half a report helps nobody; the steps are on standard error
		}
		return report.Print(w)
	})
	if err != nil {
		return withHint(err, "isthmus demo --keep leaves the clusters; isthmus status, isthmus check and isthmus sandbox status look into them")
	}
	return printErr
}

func demoOptions(lab *lab, p *progress, f demoFlags) demo.Options {
	return demo.Options{
		East: demoEast, West: demoWest, Rate: f.rate,
		Up: lab.up,
		Install: func(ctx context.Context, clusters []*cluster.Cluster) error {
			flags := installFlags{clusterset: "sandbox", domain: api.DefaultTrustDomain}
			_, err := doInstall(ctx, flags, lab.home(), clusters, detail(p, f.verbose), func(line string) { p.say("", "  "+line) })
			return err
		},
		Link: func(ctx context.Context, clusters []*cluster.Cluster) error {
			links, err := doLink(ctx, linkFlags{}, clusters, func(step string) { p.say("", "  "+step) })
			for _, l := range links {
				p.say("", fmt.Sprintf("  %s reads %s: %s", l.From, l.To, l.State))
			}
			return err
		},
		Export: func(ctx context.Context, c *cluster.Cluster, service string) error {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			_, err := (&exportTerms{}).do(ctx, c, demo.Namespace, service, true)
			return err
		},
		Progress: func(step, detail string, took time.Duration) {
			switch {
			case detail != "":
				p.say("", "  "+detail)
			case took > 0:
				p.say("", fmt.Sprintf("done in %.1f s: %s", took.Seconds(), step))
			default:
				p.say("", step)
			}
		},
	}
}

// detail prints the waits of an installation, and each object where asked.
func detail(p *progress, all bool) func(cluster, step string) {
	return func(cluster, step string) {
		if all || isWait(step) {
			p.say("", "  "+cluster+": "+step)
		}
	}
}
