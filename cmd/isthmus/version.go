package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker: -X main.version=v0.1.0.
var version = "dev"

type versionReport struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersionCommand(streams Streams) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this program",
		Example: "  isthmus version -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			report := ownVersion()
			if out == outputJSON {
				return printJSON(streams.Out, report)
			}
			_, err := fmt.Fprintf(streams.Out, "isthmus %s %s %s\n", report.Version, report.Go, report.Platform)
			return err
		},
	}
	addOutput(cmd, &out)
	return cmd
}

func ownVersion() versionReport {
	report := versionReport{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return report
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			report.Revision = s.Value
		}
	}
	return report
}
