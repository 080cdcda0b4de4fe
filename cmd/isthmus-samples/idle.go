package main

import "github.com/spf13/cobra"

// newIdleCommand returns a command that waits for its end: the main process of
// a pod in which the client is run by exec.
func newIdleCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "idle",
		Short: "Do nothing until told to end",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			<-cmd.Context().Done()
			return nil
		},
	}
}
