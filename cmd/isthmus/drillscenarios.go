package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/isthmus-mesh/isthmus/drill"
)

// drillFlags say how a drill is done and told of, beside what it is.
type drillFlags struct {
	out         output
	context     string
	junit, html string
	dryRun      bool
	force       bool
}

func (f *drillFlags) addHow(cmd *cobra.Command, e *env) {
	addOutput(cmd, &f.out)
	flags := cmd.Flags()
	flags.StringVar(&f.context, "context", "", "cluster from which the load comes; default the current context")
	flags.StringVar(&f.junit, "junit", "", "write a report for CI to this file, too")
	flags.StringVar(&f.html, "html", "", "write a page with charts to this file, too")
	flags.BoolVar(&f.dryRun, "dry-run", false, "check, print what would be done, and change nothing")
	flags.BoolVar(&f.force, "force", false, "go on where a check warns of harm; what is refused stays so")
	_ = cmd.RegisterFlagCompletionFunc("context", e.complete) // fails only for a flag that is not there
}

// drillScenario is one scenario on the command line.
type drillScenario struct {
	name, alias, short, long string
	remote                   bool // it breaks another cluster, or the way to it
	mode                     bool // how it breaks can be chosen
}

func drillScenarios() []drillScenario {
	return []drillScenario{
		{name: drill.ScenarioLocalEndpoints, short: "Lose all pods of a service in one cluster: does another take over, and does home come back?",
			long: "The deployments behind the service are scaled to 0, and back. Any cluster."},
		{name: drill.ScenarioGatewayRefuse, alias: "gateway", remote: true, mode: true, short: "Lose a remote gateway that refuses: is no request lost, does the link say so?",
			long: "The gateway shuts its listener and resets what is open, for all that use it. (Envoy's is scaled to 0.) On a sandbox the way from this cluster to it is cut."},
		{name: drill.ScenarioGatewayDrop, remote: true, short: "Lose a remote gateway that answers nothing any more: is all well 2 s later?",
			long: "The gateway drops what comes to its listener, for all that use it, which takes the built-in data plane. On a sandbox the way from this cluster to it is cut."},
		{name: drill.ScenarioAPIServer, remote: true, mode: true, short: "Lose the way to a remote API server: nothing may change but the link's state",
			long: "The control plane of this cluster does as if the API server were lost. On a sandbox the way to it is cut."},
		{name: drill.ScenarioControlPlane, short: "Lose the control plane of the cluster that the load comes from: nothing may change",
			long: "isthmusd is scaled to 0, and back. Any cluster."},
		{name: drill.ScenarioWholeCluster, remote: true, mode: true, short: "Lose a remote cluster altogether: is all well 2 s later?",
			long: "Its gateway and, in the eyes of all control planes, its API server are lost. On a sandbox the cluster is cut off from all others."},
		{name: drill.ScenarioSlow, remote: true, short: "Slow the way to a remote gateway: is no request lost?",
			long: "A relay of ours is put before the gateway, and delays what passes. Any cluster."},
		{name: drill.ScenarioFlap, remote: true, mode: true, short: "Lose a remote gateway again and again: is no request lost?",
			long: "As gateway-refuse (or gateway-drop, by --mode), mended and broken again every --period."},
	}
}

func newScenarioCommand(e *env, s drillScenario) *cobra.Command {
	var f drillFlags
	spec := drill.Spec{Scenario: s.name}
	var wants wantFlags
	cmd := &cobra.Command{
		Use:   s.name,
		Short: s.short,
		Long:  s.short + "\n" + s.long,
		Example: fmt.Sprintf(`  isthmus drill %[1]s --context east --service bookinfo/reviews --path /reviews/0 --dry-run
  isthmus drill %[1]s --context east --service bookinfo/reviews --path /reviews/0 --rate 100 --html drill.html`, s.name),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			spec.Context, spec.Force, spec.Objectives = f.context, f.force, wants.given(cmd.Flags())
			if s.name == drill.ScenarioGatewayRefuse && spec.Mode == drill.ModeDrop {
				spec.Scenario = drill.ScenarioGatewayDrop // the old name had both
			}
			full, err := spec.WithDefaults()
			if err != nil {
				return usageError{err}
			}
			return runDrill(cmd.Context(), e, f, full)
		},
	}
	if s.alias != "" {
		cmd.Aliases = []string{s.alias}
	}
	f.addHow(cmd, e)
	wants.add(cmd.Flags())
	addSpec(cmd, &spec, s)
	return cmd
}

// durationVar is flags.DurationVar for a drill.Duration.
func durationVar(flags *pflag.FlagSet, d *drill.Duration, name string, usual time.Duration, usage string) {
	flags.DurationVar((*time.Duration)(d), name, usual, usage)
}

func addSpec(cmd *cobra.Command, spec *drill.Spec, s drillScenario) {
	flags := cmd.Flags()
	flags.StringVar(&spec.Service, "service", "", "NAMESPACE/NAME of the exported service")
	flags.IntVar(&spec.Port, "port", 0, "the service's port; default its first")
	flags.StringVar(&spec.Path, "path", "/", "what to ask for")
	flags.StringVar(&spec.Image, "client-image", "", "image of the client; default the samples' beside the mesh's own")
	flags.Float64Var(&spec.Rate, "rate", 50, "requests per second")
	durationVar(flags, &spec.Baseline, "baseline", 5*time.Second, "how long to watch before")
	durationVar(flags, &spec.Duration, "duration", 15*time.Second, "how long it stays broken at least")
	durationVar(flags, &spec.Duration, "hold", 15*time.Second, "as --duration")
	durationVar(flags, &spec.After, "after", 5*time.Second, "how long to watch after all is well again")
	_ = flags.MarkHidden("hold") // the old name
	if s.remote {
		flags.StringVar(&spec.Remote, "remote", "", "the cluster that is broken; default the only other one that exports the service")
	}
	if s.mode {
		flags.StringVar(&spec.Mode, "mode", "", "refuse: connections are refused; drop: packets vanish; default as the scenario is meant")
	}
	if s.remote && s.name != drill.ScenarioSlow {
		flags.StringVar(&spec.Means, "means", "", "mesh: what is lost breaks itself, on any cluster; underlay: the sandbox's network is cut; default underlay on a sandbox, mesh elsewhere")
	}
	switch s.name {
	case drill.ScenarioFlap:
		durationVar(flags, &spec.Period, "period", 3*time.Second, "how long it is broken, and how long whole, in turn")
	case drill.ScenarioSlow:
		durationVar(flags, &spec.Delay, "delay", 200*time.Millisecond, "added to each round trip")
	}
}

// wantFlags are the objectives; those that were not given have the scenario's defaults.
type wantFlags struct {
	errors                  int
	errorRate, wrongShare   float64
	recovery, failBack, p99 drill.Duration
}

func (w *wantFlags) add(flags *pflag.FlagSet) {
	flags.IntVar(&w.errors, "max-errors", 0, "objective: requests that may fail after the break; default by scenario")
	flags.Float64Var(&w.errorRate, "max-error-rate", 0, "objective: part of the requests that may fail after the break, 0 to 1; default by scenario")
	flags.Float64Var(&w.wrongShare, "max-wrong-share", 0, "objective: part of the good answers that may come from a wrong cluster, 0 to 1; default by scenario")
	durationVar(flags, &w.recovery, "max-recovery", 0, "objective: no request fails that begins so long after the break; default by scenario")
	durationVar(flags, &w.recovery, "max-recover", 0, "as --max-recovery")
	durationVar(flags, &w.failBack, "max-fail-back", 0, "objective: time until what was lost answers again after the restore (default 1m0s)")
	durationVar(flags, &w.p99, "max-p99", 0, "objective: p99 of the good answers while broken; default none but for slow")
	_ = flags.MarkHidden("max-recover") // the old name
}

func (w *wantFlags) given(flags *pflag.FlagSet) (out drill.Wants) {
	if flags.Changed("max-errors") {
		out.MaxErrors = &w.errors
	}
	if flags.Changed("max-error-rate") {
		out.MaxErrorRate = &w.errorRate
	}
	if flags.Changed("max-wrong-share") {
		out.MaxWrongShare = &w.wrongShare
	}
	if flags.Changed("max-recovery") || flags.Changed("max-recover") {
		out.MaxRecovery = &w.recovery
	}
	if flags.Changed("max-fail-back") {
		out.MaxFailBack = &w.failBack
	}
	if flags.Changed("max-p99") {
		out.MaxP99 = &w.p99
	}
	return out
}
