package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/demo"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/meshstatus"
	"github.com/isthmus-mesh/isthmus/drill"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// drillFlags are the flags of all scenarios.
type drillFlags struct {
	out        output
	context    string
	service    string
	port       int
	path       string
	image      string
	rate       float64
	opts       drill.Options
	dryRun     bool
	objectives drill.Objectives
}

func newDrillCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drill",
		Short: "Rehearse a failure: baseline, break, measure, restore, verdict",
		Long: `Send a steady load to a service, break something, measure, restore it, and judge by objectives.
What was broken is restored also after an interruption. The exit code is 3 when the verdict is not pass.`,
	}
	cmd.AddCommand(newDrillEndpointsCommand(e), newDrillGatewayCommand(e), newDrillAPIServerCommand(e))
	return cmd
}

func (f *drillFlags) add(cmd *cobra.Command, e *env) {
	addOutput(cmd, &f.out)
	flags := cmd.Flags()
	flags.StringVar(&f.context, "context", "", "cluster from which the load comes; default the current context")
	flags.StringVar(&f.service, "service", "", "NAMESPACE/NAME of the exported service")
	flags.IntVar(&f.port, "port", 0, "the service's port; default its first")
	flags.StringVar(&f.path, "path", "/", "what to ask for")
	flags.StringVar(&f.image, "client-image", "", "image of the client; default the samples' beside the mesh's own")
	flags.Float64Var(&f.rate, "rate", 50, "requests per second")
	flags.DurationVar(&f.opts.Baseline, "baseline", 5*time.Second, "how long to watch before")
	flags.DurationVar(&f.opts.Hold, "hold", 15*time.Second, "how long it stays broken at least")
	flags.DurationVar(&f.opts.After, "after", 5*time.Second, "how long to watch after the home cluster answers again")
	flags.DurationVar(&f.objectives.Recover, "max-recover", 2*time.Second, "objective: time to recover")
	flags.DurationVar(&f.objectives.FailBack, "max-fail-back", time.Minute, "objective: time until the home cluster answers again after the restore")
	flags.Float64Var(&f.objectives.ErrorRate, "max-error-rate", 0.01, "objective: part of the requests that may fail after the break")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only check whether it would be safe")
	_ = cmd.RegisterFlagCompletionFunc("context", e.complete) // fails only for a flag that is not there
	_ = cmd.MarkFlagRequired("service")
}

func newDrillEndpointsCommand(e *env) *cobra.Command {
	var f drillFlags
	cmd := &cobra.Command{
		Use:   "local-endpoints",
		Short: "Lose all pods of a service in one cluster: does another take over, and does home come back?",
		Example: `  isthmus drill local-endpoints --context east --service bookinfo/reviews --path /reviews/0
  isthmus drill local-endpoints --context east --service shop/checkout --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDrill(cmd.Context(), e, f, func(ctx context.Context, d *drillSetup) (drill.Scenario, error) {
				d.want.Home, d.want.Away = d.home, d.away
				return drill.LocalEndpoints(ctx, d.cluster, d.home, d.namespace, d.name, d.elsewhere)
			})
		},
	}
	f.add(cmd, e)
	return cmd
}

// drillSetup is what a scenario is made from.
type drillSetup struct {
	cluster         *cluster.Cluster
	namespace, name string
	home            string   // name of the cluster
	away            string   // the other exporting cluster; empty where there is not exactly one
	others          []string // all other exporting clusters
	exported        bool     // home exports it, too
	image           string
	want            drill.Objectives
}

// elsewhere refuses a drill after which nobody would answer.
func (d *drillSetup) elsewhere(context.Context) error {
	if len(d.others) == 0 {
		return fmt.Errorf("%w: no other cluster exports %s/%s", drill.ErrUnsafe, d.namespace, d.name)
	}
	return nil
}

func runDrill(ctx context.Context, e *env, f drillFlags, scenario func(context.Context, *drillSetup) (drill.Scenario, error)) error {
	p := newProgress(e.Streams)
	d, err := f.setup(ctx, e)
	if err != nil {
		return err
	}
	opts := f.opts
	opts.Progress = func(step string) { p.say("", step) }
	if opts.Scenario, err = scenario(ctx, d); err != nil {
		return err
	}
	opts.Objectives = d.want
	if f.dryRun {
		if err := opts.Scenario.Check(ctx); err != nil {
			return err
		}
		return finish(true, f.out, e.Out, map[string]string{"scenario": opts.Scenario.Name, "would": opts.Scenario.What}, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "safe; it would %s\n", opts.Scenario.What)
			return err
		})
	}
	result, err := f.run(ctx, d, opts)
	if err != nil {
		return err
	}
	return finish(result.Verdict == drill.Pass, f.out, e.Out, result, func(w io.Writer) error { return demo.PrintDrill(w, result) })
}

// run starts the client, does the drill, and removes the client.
func (f drillFlags) run(ctx context.Context, d *drillSetup, opts drill.Options) (result drill.Result, err error) {
	opts.Progress("start a client in " + d.namespace)
	pod, stop, err := drill.StartClient(ctx, d.cluster, d.namespace, d.image)
	if stop != nil {
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			err = errors.Join(err, stop(ctx))
		}()
	}
	if err != nil {
		return drill.Result{}, err
	}
	url := fmt.Sprintf("http://%s:%d%s", clustersetName(d.namespace, d.name), f.port, f.path)
	load := drill.PodLoad{Cluster: d.cluster, Namespace: d.namespace, Pod: pod, Container: "client", URL: url, Rate: f.rate, Timeout: 5 * time.Second}
	opts.Load = load.Run
	return drill.Run(ctx, opts)
}

// setup reads what the drill needs to know of the service.
func (f *drillFlags) setup(ctx context.Context, e *env) (*drillSetup, error) {
	namespace, name, ok := strings.Cut(f.service, "/")
	if !ok || namespace == "" || name == "" {
		return nil, usageErrorf("%q is not of the form NAMESPACE/NAME", f.service)
	}
	c, err := cluster.Open(e.kubeconfig, f.context)
	if err != nil {
		return nil, err
	}
	installed, err := clusterset.Find(ctx, c)
	if err != nil {
		return nil, err
	}
	if installed == nil {
		return nil, fmt.Errorf("context %s: %w", c.Context, clusterset.ErrNotInstalled)
	}
	d := &drillSetup{cluster: c, namespace: namespace, name: name, home: installed.Cluster, want: f.objectives}
	d.image = cmp.Or(f.image, fmt.Sprintf("%s/%s:%s", cmp.Or(installed.Hub, api.ImageHub), api.ImageSamples, cmp.Or(installed.Tag, "dev")))
	imported, err := meshstatus.FindImport(ctx, c, namespace, name)
	if err != nil {
		return nil, withHint(err, "isthmus export "+f.service+" --context CONTEXT, in two clusters")
	}
	for _, exporter := range imported.Clusters {
		if exporter == d.home {
			d.exported = true
			continue
		}
		d.others = append(d.others, exporter)
	}
	if len(d.others) == 1 {
		d.away = d.others[0]
	}
	if f.port == 0 && len(imported.Ports) > 0 {
		f.port = int(imported.Ports[0])
	}
	return d, nil
}
