package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/cmd/internal/memory"
	"github.com/isthmus-mesh/isthmus/dataplane/intercept"
)

func newRootCommand(env func(string) string, out, errs io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:           "isthmus-proxy",
		Short:         "The proxy of Isthmus: sidecar, east-west gateway and entry gateway",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newInterceptCommand(env, errs), newSidecarCommand(env, errs), newGatewayCommand(env, errs), newVersionCommand(out))
	return root
}

func newInterceptCommand(env func(string) string, errs io.Writer) *cobra.Command {
	var cfg exclusions
	var entry string
	var undo bool
	cmd := &cobra.Command{
		Use:   "intercept",
		Short: "Redirect the pod's TCP traffic to its sidecar, and exit",
		Long: "Installs the redirect rules in the pod's network namespace, for IPv4 and IPv6.\n" +
			"Needs the capability NET_ADMIN. May be run again: the rules are replaced at once.\n\n" +
			"With --entry-ports the pod is an entry gateway: TCP connections from outside to that\n" +
			"range are redirected to its port, and nothing else is touched.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			log, _ := newLog(errs, "info")
			if undo {
				return intercept.Undo()
			}
			if entry != "" {
				return applyEntry(entry, cfg, log)
			}
			opts, err := cfg.parse()
			if err != nil {
				return err
			}
			if err := intercept.Apply(opts); err != nil {
				return err
			}
			log.Info("traffic is redirected", "exclude_inbound", cfg.inboundPorts, "exclude_outbound", cfg.outboundPorts, "exclude_ranges", cfg.outboundCIDRs,
				"exclude_users", cfg.uids, "exclude_groups", cfg.gids, "exclude_interfaces", cfg.interfaces,
				"include_inbound", cfg.onlyInboundPorts, "include_ranges", cfg.onlyOutboundCIDRs, "include_outbound", cfg.alsoOutboundPorts)
			return nil
		},
	}
	cfg.flags(cmd.Flags(), env)
	text(cmd.Flags(), env, &entry, "entry-ports", "ISTHMUS_ENTRY_PORTS", "", "range of ports, such as 20000-29999, of an entry gateway; all other redirects are off")
	cmd.Flags().BoolVar(&undo, "undo", false, "remove the rules")
	return cmd
}

// applyEntry redirects the ports of an entry gateway.
func applyEntry(ports string, cfg exclusions, log *slog.Logger) error {
	if cfg != (exclusions{}) {
		return errors.New("entry ports and exclusions: an entry gateway redirects its ports alone")
	}
	r, err := api.ParsePortRange(ports)
	if err != nil {
		return fmt.Errorf("entry ports: %w", err)
	}
	if err := intercept.ApplyEntry(r); err != nil {
		return err
	}
	log.Info("entry ports are redirected", "ports", r.String())
	return nil
}

func newSidecarCommand(env func(string) string, errs io.Writer) *cobra.Command {
	return newProxyCommand(env, errs, roleSidecar, "sidecar", "Run beside a workload, whose traffic the rules of intercept lead here")
}

func newGatewayCommand(env func(string) string, errs io.Writer) *cobra.Command {
	return newProxyCommand(env, errs, roleGateway, "gateway", "Run as an east-west or entry gateway")
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
			cfg.fill(cmd.Flags())
			memory.KeepBelowLimit(cmd.Context(), log)
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
