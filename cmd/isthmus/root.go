package main

import (
	"github.com/spf13/cobra"
)

// newRootCommand returns the whole command tree, writing to streams.
func newRootCommand(streams Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:           "isthmus",
		Short:         "Join Kubernetes clusters so that services call each other by name, and keep working when one goes away",
		SilenceUsage:  true,
		SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{
			HiddenDefaultCmd: false,
		},
	}
	cmd.SetIn(streams.In)
	cmd.SetOut(streams.Out)
	cmd.SetErr(streams.Err)
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return withHint(usageError{err}, c.CommandPath()+" --help")
	})
	cmd.AddCommand(
		newVersionCommand(streams),
	)
	return cmd
}
