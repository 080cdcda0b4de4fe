package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/precheck"
)

func newPrecheckCommand(e *env) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "precheck CONTEXT...",
		Short: "Can these clusters take the mesh? Rights, versions, clocks, addresses",
		Long: `Look at each cluster without changing it: whether it answers, the version, the rights of whoever calls,
its clock, definitions of others, whether the addresses that are to stand for pods of other networks are free, whether
ServiceImports can be guarded, whether Pod Security refuses sidecars where they are wanted, and the names and networks of all together. The exit code is 3 when one cannot take the mesh.`,
		Example: `  isthmus precheck east west
  isthmus precheck east -o json`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: e.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPrecheck(cmd.Context(), e, args, out)
		},
	}
	addOutput(cmd, &out)
	return cmd
}

func runPrecheck(ctx context.Context, e *env, contexts []string, out output) error {
	clusters, err := e.open(contexts)
	if err != nil {
		return err
	}
	report := precheck.Run(ctx, clusters)
	return finish(report.OK, out, e.Out, report, func(w io.Writer) error {
		if err := printFindings(w, report.Findings); err != nil || !report.OK {
			return err
		}
		_, err := fmt.Fprintln(w, "next: isthmus install", joinWords(contexts))
		return err
	})
}

// printFindings writes a line for each finding; the next step where it is bad.
func printFindings(w io.Writer, findings []precheck.Finding) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", f.State, f.Where, f.What, f.Message)
		if f.Next != "" {
			fmt.Fprintf(t, "\t\t\tnext: %s\n", f.Next)
		}
	}
	return t.Flush()
}
