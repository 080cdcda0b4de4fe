package main

import (
	"fmt"
	"io"
	"log/slog"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/dataplane/intercept"
)

func newRootCommand(env func(string) string, out, errs io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:           "isthmus-proxy",
		Short:         "The proxy of Isthmus: sidecar and east-west gateway",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newInterceptCommand(env, errs), newSidecarCommand(env, errs), newGatewayCommand(env, errs), newVersionCommand(out))
	return root
}

func newInterceptCommand(env func(string) string, errs io.Writer) *cobra.Command {
	var cfg exclusions
	var undo bool
	cmd := &cobra.Command{
		Use:   "intercept",
		Short: "Redirect the pod's TCP traffic to its sidecar, and exit",
		Long: "Installs the redirect rules in the pod's network namespace, for IPv4 and IPv6.\n" +
			"Needs the capability NET_ADMIN. May be run again: the rules are replaced at once.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			log, _ := newLog(errs, "info")
			if undo {
				return intercept.Undo()
			}
			opts, err := cfg.parse()
			if err != nil {
				return err
			}
			if err := intercept.Apply(opts); err != nil {
				return err
			}
			log.Info("traffic is redirected", "exclude_inbound", cfg.inboundPorts, "exclude_outbound", cfg.outboundPorts, "exclude_ranges", cfg.outboundCIDRs)
			return nil
		},
	}
	cfg.flags(cmd.Flags(), env)
	cmd.Flags().BoolVar(&undo, "undo", false, "remove the rules")
	return cmd
}

func newSidecarCommand(env func(string) string, errs io.Writer) *cobra.Command {
	return newProxyCommand(env, errs, roleSidecar, "sidecar", "Run beside a workload, whose traffic the rules of intercept lead here")
}

func newGatewayCommand(env func(string) string, errs io.Writer) *cobra.Command {
	return newProxyCommand(env, errs, roleGateway, "gateway", "Run as an east-west gateway")
}

func newProxyCommand(env func(string) string, errs io.Writer, r role, use, short string) *cobra.Command {
	cfg := settings{role: r}
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, level := newLog(errs, cfg.logLevel)
			if err := cfg.check(); err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, log, level)
		},
	}
	cfg.flags(cmd.Flags(), env)
	return cmd
}

func newVersionCommand(out io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(out, "isthmus-proxy %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// newLog returns a log as lines of text and the level that can be changed.
func newLog(w io.Writer, level string) (*slog.Logger, *slog.LevelVar) {
	v := new(slog.LevelVar)
	if err := v.UnmarshalText([]byte(level)); err != nil {
		v.Set(slog.LevelInfo)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: v})), v
}
