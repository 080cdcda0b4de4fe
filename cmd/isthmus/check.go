package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/linkcheck"
)

func newCheckCommand(e *env) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "check [CONTEXT...]",
		Short: "Prove each link: API, sync, gateway, mTLS, roots, clocks, versions, DNS, the entry gateway",
		Long: `Prove that the links of these clusters work now; without contexts, of all in the kubeconfig.
Gateways are proved by the control planes, whose probes end in an mTLS handshake with the right identity.
Of each cluster it looks at what pods without a sidecar need: the entry gateway, its NetworkPolicy, how many of its ports are
free; whether the addresses that stand for pods of other networks overlap any of the cluster's; and the guard for ServiceImports.
It names the namespaces that are labelled for sidecars and whose Pod Security refuses them.
The exit code is 3 when something is not well.`,
		Example: `  isthmus check east west
  isthmus check -o json`,
		ValidArgsFunction: e.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			contexts, err := e.contexts(args)
			if err != nil {
				return err
			}
			clusters, err := e.open(contexts)
			if err != nil {
				return err
			}
			report := linkcheck.Run(cmd.Context(), clusters)
			return finish(report.OK, out, e.Out, report, func(w io.Writer) error { return printFindings(w, report.Findings) })
		},
	}
	addOutput(cmd, &out)
	return cmd
}
