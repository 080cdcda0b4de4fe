package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/importview"
)

func newImportsCommand(e *env) *cobra.Command {
	var out output
	var contexts []string
	cmd := &cobra.Command{
		Use:   "imports [NAMESPACE/NAME]",
		Short: "Show the services of the clusterset: who exports them, whose word counts, conflicts, endpoints, since when",
		Long: `Show what the clusters have imported from one another; with a name, everything about that one.
Where exporters disagree, the oldest export decides; ports are united. An export to chosen clusters counts in these alone.
Pods of another network are reached through its gateways: by sidecars, and by pods without one at the port that the entry
gateway has for each of the import's ports. A pod of a headless service of another network has an address here that stands for it.
The exit code is 3 when something is not well.`,
		Example: `  isthmus imports
  isthmus imports shop/checkout
  isthmus imports --context east -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var namespace, name string
			if len(args) == 1 {
				var err error
				if namespace, name, err = parseService(args[0]); err != nil {
					return err
				}
			}
			names, err := e.contexts(contexts)
			if err != nil {
				return err
			}
			clusters, err := e.open(names)
			if err != nil {
				return err
			}
			report := importview.Collect(cmd.Context(), clusters, namespace, name)
			if name != "" && len(report.Imports) == 0 && len(report.Notes) == 0 {
				return withHint(fmt.Errorf("no cluster of %s exports or imports %s", strings.Join(names, ", "), args[0]), "isthmus export "+args[0]+" --context CONTEXT")
			}
			return finish(report.Healthy, out, e.Out, report, func(w io.Writer) error { return printImports(w, report, name != "") })
		},
	}
	addOutput(cmd, &out)
	cmd.Flags().StringSliceVar(&contexts, "context", nil, "contexts to ask; default all of the kubeconfig")
	_ = cmd.RegisterFlagCompletionFunc("context", e.complete) // fails only for a flag that is not there
	return cmd
}

// parseService reads NAMESPACE/NAME.
func parseService(s string) (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(s, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return "", "", usageErrorf("%q is not of the form NAMESPACE/NAME", s)
	}
	return namespace, name, nil
}

// exporterText names an exporter, and to whom it exports where not to all.
func exporterText(i importview.Import, e importview.Exporter) string {
	text := fmt.Sprintf("%s (%d)", e.Cluster, i.Endpoints(e.Cluster))
	if len(e.To) > 0 {
		text += " to " + strings.Join(e.To, "+")
	}
	return text
}

func printImports(w io.Writer, report importview.Report, detail bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	switch {
	case detail:
		for _, i := range report.Imports {
			printImport(t, report.Time, i)
		}
	case len(report.Imports) == 0:
		fmt.Fprintln(t, "no imports; next: isthmus export NAMESPACE/NAME --context CONTEXT")
	default:
		fmt.Fprintln(t, "IMPORT\tTYPE\tPORTS\tEXPORTED BY (READY ENDPOINTS)\tIMPORTED BY\tCONFLICTS")
		for _, i := range report.Imports {
			fmt.Fprintf(t, "%s/%s\t%s\t%s\t%s\t%s\t%s\n", i.Namespace, i.Name, dash(i.Type), dash(portsText(i)), dash(exportersText(i)), dash(importersText(i)), dash(conflictsText(i)))
		}
	}
	for _, note := range report.Notes {
		fmt.Fprintf(t, "not known: %s\n", note)
	}
	return t.Flush()
}

func dash(s string) string { return cmp.Or(s, "-") }

func portsText(i importview.Import) string {
	var out []string
	for _, p := range i.Ports {
		out = append(out, fmt.Sprintf("%d/%s", p.Number, p.Protocol))
	}
	return strings.Join(out, ",")
}

func exportersText(i importview.Import) string {
	var out []string
	for _, e := range i.Exporters {
		out = append(out, exporterText(i, e))
	}
	return strings.Join(out, ", ")
}

func importersText(i importview.Import) string {
	var out []string
	for _, m := range i.Importers {
		out = append(out, m.Cluster)
	}
	return strings.Join(out, ", ")
}

func conflictsText(i importview.Import) string {
	var out []string
	for _, c := range i.Conflicts {
		out = append(out, c.Reason)
	}
	return strings.Join(out, ", ")
}
