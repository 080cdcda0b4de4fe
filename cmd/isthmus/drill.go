package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/drilling"
	"github.com/isthmus-mesh/isthmus/drill"
	"github.com/isthmus-mesh/isthmus/drill/report"
)

// newDrillCommand groups the scenarios; by itself it does the drill of a manifest.
func newDrillCommand(e *env) *cobra.Command {
	var f drillFlags
	var file string
	cmd := &cobra.Command{
		Use:   "drill",
		Short: "Rehearse a failure: baseline, break, measure, restore, verdict",
		Long: `Send a steady load to a service, break something, measure, restore it, and judge by objectives.
Whether it is safe is checked before anything is changed; --dry-run tells what would be done. What was
broken is restored also after an interruption, and after a crash by isthmus drill restore.
The exit code is 3 when the verdict is not pass.`,
		Example: `  isthmus drill local-endpoints --service shop/checkout --dry-run
  isthmus drill gateway-drop --context east --service shop/checkout --rate 100 --html drill.html
  isthmus drill -f drill.yaml --junit drill.xml
  isthmus drill restore --context east`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return cmd.Help()
			}
			spec, err := readDrill(e, file, f)
			if err != nil {
				return err
			}
			return runDrill(cmd.Context(), e, f, spec)
		},
	}
	cmd.Flags().StringVarP(&file, "filename", "f", "", "a Drill manifest; - is standard input")
	f.addHow(cmd, e)
	for _, s := range drillScenarios() {
		cmd.AddCommand(newScenarioCommand(e, s))
	}
	cmd.AddCommand(newDrillRestoreCommand(e))
	return cmd
}

// readDrill reads a manifest; the context and --force of the command line come first.
func readDrill(e *env, file string, f drillFlags) (drill.Spec, error) {
	var data []byte
	var err error
	if file == "-" {
		data, err = io.ReadAll(e.In)
	} else {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return drill.Spec{}, fmt.Errorf("read drill: %w", err)
	}
	m, err := drill.ParseManifest(data)
	if err != nil {
		return drill.Spec{}, withHint(usageError{fmt.Errorf("%s: %w", file, err)}, "docs/drills.md has all fields of a Drill")
	}
	m.Spec.Context = cmp.Or(f.context, m.Spec.Context)
	m.Spec.Force = m.Spec.Force || f.force
	return m.Spec, nil
}

// runDrill plans a drill, and does it where it is safe and not only to be shown.
func runDrill(ctx context.Context, e *env, f drillFlags, spec drill.Spec) error {
	p := newProgress(e.Streams)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP) // a terminal that goes away is an interruption, not a crash
	defer stop()
	plan, err := drilling.Prepare(ctx, e.kubeconfig, spec)
	if err != nil {
		return drillError(err)
	}
	if f.dryRun {
		if err := finish(true, f.out, e.Out, plan, plan.Print); err != nil {
			return err
		}
		return drillError(plan.Safe())
	}
	for _, finding := range plan.Findings {
		p.say("", finding.String())
	}
	result, err := plan.Run(ctx, e.kubeconfig, func(step string) { p.say("", step) })
	if err != nil {
		return drillError(err)
	}
	if err := f.write(result); err != nil {
		return err
	}
	return finish(result.Verdict == drill.Pass, f.out, e.Out, result, func(w io.Writer) error { return report.Table(w, result) })
}

// write writes the reports that go into files.
func (f drillFlags) write(result drill.Result) error {
	var errs error
	for _, file := range []struct {
		path  string
		write func(io.Writer, drill.Result) error
	}{{f.junit, report.JUnit}, {f.html, report.HTML}} {
		if file.path == "" {
			continue
		}
		var text strings.Builder
		err := file.write(&text, result)
		if err == nil {
			err = os.WriteFile(file.path, []byte(text.String()), 0o644)
		}
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("write report: %w", err))
		}
	}
	return errs
}

// drillError adds what can be done.
func drillError(err error) error {
	if err == nil {
		return nil
	}
	if drilling.IsUsage(err) {
		return usageError{err}
	}
	if next := drilling.Next(err); next != "" {
		return withHint(err, next)
	}
	return err
}

func newDrillRestoreCommand(e *env) *cobra.Command {
	var out output
	var contextName string
	var force bool
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Undo what a drill that crashed has left broken",
		Long: `A drill notes in the cluster what it changes before it changes it. This undoes all of that and takes the
note away. It may be done any number of times. A drill that runs still is left alone.`,
		Example: "  isthmus drill restore --context east",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			done, err := drilling.Restore(cmd.Context(), e.kubeconfig, contextName, force)
			if err != nil {
				return drillError(err)
			}
			return finish(true, out, e.Out, done, func(w io.Writer) error { return printRestored(w, done) })
		},
	}
	addOutput(cmd, &out)
	cmd.Flags().StringVar(&contextName, "context", "", "a cluster that the drill concerned; default the current context")
	cmd.Flags().BoolVar(&force, "force", false, "also where the drill seems to run still")
	_ = cmd.RegisterFlagCompletionFunc("context", e.complete) // fails only for a flag that is not there
	return cmd
}

func printRestored(w io.Writer, done drilling.Restored) error {
	if done.Note == "" {
		_, err := fmt.Fprintf(w, "nothing to restore: no drill is noted in %s\n", done.Context)
		return err
	}
	fmt.Fprintf(w, "restored: %s\n", done.Note)
	for _, change := range done.Undone {
		if _, err := fmt.Fprintf(w, "  undone: %s\n", change); err != nil {
			return err
		}
	}
	return nil
}
