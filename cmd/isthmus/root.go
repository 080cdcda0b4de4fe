package main

import (
	"github.com/spf13/cobra"
)

// newRootCommand returns the whole command tree, writing to streams.
func newRootCommand(streams Streams) *cobra.Command {
	e := &env{Streams: streams}
	cmd := &cobra.Command{
		Use:   "isthmus",
		Short: "Join Kubernetes clusters so that services call each other by name, and keep working when one goes away",
		Example: `  isthmus install east west        the mesh in two clusters of the kubeconfig
  isthmus link east west           each reads the other; proved
  isthmus export shop/checkout --context west
  isthmus demo                     all of that on this machine, with no cluster at hand`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.SetIn(streams.In)
	cmd.SetOut(streams.Out)
	cmd.SetErr(streams.Err)
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return withHint(usageError{err}, c.CommandPath()+" --help")
	})
	e.addKubeconfig(cmd)
	cmd.AddCommand(
		newPrecheckCommand(e),
		newInstallCommand(e),
		newUninstallCommand(e),
		newChartCommand(e),
		newLinkCommand(e),
		newUnlinkCommand(e),
		newExportCommand(e),
		newUnexportCommand(e),
		newImportsCommand(e),
		newStatusCommand(e),
		newCheckCommand(e),
		newProxyCommand(e),
		newInjectCommand(e),
		newDrainCommand(e),
		newUndrainCommand(e),
		newDrillCommand(e),
		newDemoCommand(e),
		newSandboxCommand(streams),
		newVersionCommand(streams),
	)
	groupsNeedCommand(cmd)
	argsAreUsage(cmd)
	return cmd
}

// groupsNeedCommand makes commands that only hold others print their help, and
// refuse a name that none of the others has.
func groupsNeedCommand(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		groupsNeedCommand(c)
	}
	if cmd.Runnable() {
		return
	}
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		return withHint(usageErrorf("unknown command %q for %q", args[0], c.CommandPath()), c.CommandPath()+" --help")
	}
}

// argsAreUsage makes a wrong number of arguments a usage error.
func argsAreUsage(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		argsAreUsage(c)
	}
	check := cmd.Args
	if check == nil {
		return
	}
	cmd.Args = func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return withHint(usageError{err}, c.CommandPath()+" --help")
		}
		return nil
	}
}
