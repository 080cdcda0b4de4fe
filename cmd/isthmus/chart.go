package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/install"
)

func newChartCommand(e *env) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "chart -o DIR",
		Short: "Write the Helm chart to a folder, for helm itself",
		Long: `Write the chart that install uses, with the definitions and the profiles, to DIR/isthmus. helm makes the same release of it
as isthmus install, which alone makes certificates and configures CoreDNS: see docs/operations.md.
Where somebody else has brought definitions of the MCS API, ClusterProperty or PeerAuthentication already, give helm --skip-crds
after isthmus install has run once, since helm replaces them.`,
		Example: `  isthmus chart -o .
  isthmus install east --print values > east.yaml
  helm install isthmus ./isthmus --namespace isthmus-system --create-namespace -f east.yaml`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if dir == "" {
				return usageErrorf("--output names the folder to write to")
			}
			to, err := writeChart(dir)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(e.Out, "wrote %s\nnext: helm install isthmus %s --namespace %s --create-namespace -f VALUES, with those of: isthmus install CONTEXT --print values\n", to, to, install.Namespace)
			return err
		},
	}
	cmd.Flags().StringVarP(&dir, "output", "o", "", "the folder to write to")
	return cmd
}

// writeChart writes the chart below dir and returns where it is.
func writeChart(dir string) (string, error) {
	files, err := install.ChartFiles()
	if err != nil {
		return "", err
	}
	to := filepath.Join(dir, "isthmus")
	for _, f := range files {
		name := filepath.Join(to, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return "", fmt.Errorf("write chart: %w", err)
		}
		if err := os.WriteFile(name, f.Data, 0o644); err != nil { //nolint:gosec // it holds no secret
			return "", fmt.Errorf("write chart: %w", err)
		}
	}
	return to, nil
}
