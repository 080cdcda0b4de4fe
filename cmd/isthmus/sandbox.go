package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/sandbox"
)

// newSandboxCommand groups the commands for clusters on this machine.
func newSandboxCommand(streams Streams) *cobra.Command {
	s := &sandboxCommand{streams: streams}
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Real Kubernetes clusters on this machine: no Docker, no registry, as root or not",
		Long: `Real Kubernetes clusters on this machine: etcd, API server, controllers, scheduler,
kubelet, kube-proxy and CoreDNS, in namespaces of their own. Pods run as
processes, from programs of this project only. Clusters are on networks of their
own, which reach each other by node and LoadBalancer addresses alone.`,
		Example: `  isthmus sandbox up --clusters east,west
  export KUBECONFIG=$(isthmus sandbox kubeconfig)
  kubectl --context east get pods -A
  isthmus sandbox cut east west --what api --mode drop
  isthmus sandbox heal
  isthmus sandbox down`,
	}
	cmd.PersistentFlags().StringVar(&s.dir, "dir", cmp.Or(os.Getenv("ISTHMUS_SANDBOX_DIR"), sandbox.DefaultDir()),
		"the sandbox's folder (default also by ISTHMUS_SANDBOX_DIR)")
	cmd.AddCommand(s.up(), s.down(), s.status(), s.kubeconfig(), s.cut(), s.heal(),
		s.act("kill", "End a part of a cluster without warning; it stays down"),
		s.act("start", "Start a part that was killed"),
		s.capture(), s.exec())
	return cmd
}

type sandboxCommand struct {
	streams Streams
	dir     string
	output  output
}

// attach finds the running sandbox.
func (s *sandboxCommand) attach() (*sandbox.Sandbox, error) {
	sb, err := sandbox.Attach(s.dir)
	if errors.Is(err, sandbox.ErrNotRunning) {
		return nil, withHint(err, "isthmus sandbox up")
	}
	return sb, err
}

func (s *sandboxCommand) up() *cobra.Command {
	var clusters []string
	var opts sandbox.Options
	var same bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start clusters, or complete the ones that run",
		Example: `  isthmus sandbox up                                    east and west, on two networks
  isthmus sandbox up --clusters east,west --same-network  pods reach each other's addresses
  isthmus sandbox up --clusters a=left,b=left,c=right     a network for each by name`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, text := range clusters {
				name, network, given := strings.Cut(text, "=")
				if same && given {
					return usageErrorf("--same-network and %q: a network is given twice", text)
				}
				if same {
					network = "sandbox"
				}
				opts.Clusters = append(opts.Clusters, sandbox.Cluster{Name: name, Network: network})
			}
			opts.Dir = s.dir
			opts.Progress = s.progress()
			sb, err := sandbox.Up(cmd.Context(), opts)
			if err != nil {
				return err
			}
			return s.print(cmd, sb)
		},
	}
	cmd.Flags().StringSliceVar(&clusters, "clusters", []string{"east", "west"}, "names of the clusters, each as NAME or NAME=NETWORK")
	cmd.Flags().BoolVar(&same, "same-network", false, "all clusters on one network: pods reach each other directly")
	cmd.Flags().BoolVar(&opts.Bare, "bare", false, "no CoreDNS")
	addOutput(cmd, &s.output)
	return cmd
}

// progress prints steps to standard error as they are done.
func (s *sandboxCommand) progress() func(sandbox.Event) {
	var mu sync.Mutex
	return func(e sandbox.Event) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(s.streams.Err, "%6.1fs  %s\n", e.Elapsed.Seconds(), prefixed(e.Cluster, e.Step))
	}
}

func (s *sandboxCommand) down() *cobra.Command {
	return &cobra.Command{
		Use:     "down",
		Short:   "End the sandbox and remove all that it kept",
		Example: `  isthmus sandbox down`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return sandbox.Down(cmd.Context(), s.dir)
		},
	}
}

func (s *sandboxCommand) status() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show clusters, addresses, processes and cuts",
		Example: "  isthmus sandbox status\n  isthmus sandbox status -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sb, err := s.attach()
			if err != nil {
				return err
			}
			return s.print(cmd, sb)
		},
	}
	addOutput(cmd, &s.output)
	return cmd
}

// print tells all about the sandbox.
func (s *sandboxCommand) print(cmd *cobra.Command, sb *sandbox.Sandbox) error {
	status, err := sb.Status(cmd.Context())
	if err != nil {
		return err
	}
	if s.output == outputJSON {
		return printJSON(s.streams.Out, map[string]any{
			"dir": sb.Dir(), "kubeconfig": sb.Kubeconfig(), "clusters": sb.Clusters(),
			"processes": status.Processes, "cuts": status.Cuts,
		})
	}
	w := s.streams.Out
	for _, c := range sb.Clusters() {
		fmt.Fprintf(w, "cluster %s, network %s: node %s, pods %s, services %s, load balancers %s\n",
			c.Name, c.Network, c.NodeAddress, c.Pods, c.Services, c.LoadBalancers)
	}
	for _, p := range status.Processes {
		state := "running"
		if !p.Running {
			state = "down"
		}
		fmt.Fprintf(w, "%s %s: %s since %s %s\n", p.Cluster, p.Part, state, p.Since.Local().Format("15:04:05"), p.Error)
	}
	for _, c := range status.Cuts {
		fmt.Fprintf(w, "cut: %s cannot reach %s of %s (%s)\n", c.From, c.What, c.To, c.Mode)
	}
	fmt.Fprintf(w, "export KUBECONFIG=%s\n", sb.Kubeconfig())
	return nil
}

func (s *sandboxCommand) kubeconfig() *cobra.Command {
	return &cobra.Command{
		Use:     "kubeconfig",
		Short:   "Print the path of a kubeconfig with a context for each cluster",
		Example: `  export KUBECONFIG=$(isthmus sandbox kubeconfig)`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			sb, err := s.attach()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(s.streams.Out, sb.Kubeconfig())
			return err
		},
	}
}

func (s *sandboxCommand) cut() *cobra.Command {
	var mode, what string
	cmd := &cobra.Command{
		Use:   "cut FROM TO",
		Short: "Take something of cluster TO away from cluster FROM ('*': from all others)",
		Example: `  isthmus sandbox cut east west                              everything, both ways: packets vanish
  isthmus sandbox cut '*' west --what api --mode refuse      west's API server is refused
  isthmus sandbox cut east west --what gateway --mode drop   west's LoadBalancer addresses`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			sb, err := s.attach()
			if err != nil {
				return err
			}
			from := args[0]
			if from == "*" {
				from = ""
			}
			return sb.Cut(cmd.Context(), from, args[1], sandbox.Mode(mode), sandbox.What(what))
		},
	}
	cmd.Flags().StringVar(&mode, "mode", string(sandbox.Drop), "refuse or drop")
	cmd.Flags().StringVar(&what, "what", string(sandbox.All), "api, gateway, all or port:N")
	return cmd
}

func (s *sandboxCommand) heal() *cobra.Command {
	return &cobra.Command{
		Use:     "heal",
		Short:   "Undo all cuts",
		Example: `  isthmus sandbox heal`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sb, err := s.attach()
			if err != nil {
				return err
			}
			return sb.Heal(cmd.Context())
		},
	}
}

func (s *sandboxCommand) act(action, short string) *cobra.Command {
	return &cobra.Command{
		Use:     action + " CLUSTER control|node",
		Short:   short,
		Long:    short + ".\nThe control part is etcd, API server, controllers and scheduler; pods outlive it.\nThe node part is kubelet, kube-proxy and the container runtime; pods end with it.",
		Example: "  isthmus sandbox " + action + " west control",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			sb, err := s.attach()
			if err != nil {
				return err
			}
			if action == "kill" {
				return sb.Kill(cmd.Context(), args[0], sandbox.Part(args[1]))
			}
			if err := sb.Start(cmd.Context(), args[0], sandbox.Part(args[1])); err != nil {
				return err
			}
			return sb.WaitReady(cmd.Context(), args[0])
		},
	}
}

func (s *sandboxCommand) capture() *cobra.Command {
	return &cobra.Command{
		Use:     "capture [FILE]",
		Short:   "Write what crosses between the nodes to a pcap file, or standard output, until Ctrl-C",
		Example: "  isthmus sandbox capture underlay.pcap\n  isthmus sandbox capture | tcpdump -nr -",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			sb, err := s.attach()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return sb.Capture(cmd.Context(), s.streams.Out, nil)
			}
			file, err := os.Create(args[0])
			if err != nil {
				return err
			}
			return errors.Join(sb.Capture(cmd.Context(), file, nil), file.Close())
		},
	}
}

func (s *sandboxCommand) exec() *cobra.Command {
	return &cobra.Command{
		Use:   "exec CLUSTER -- COMMAND...",
		Short: "Run a program of this machine in the network of a cluster's node ('underlay': between the nodes)",
		Example: `  isthmus sandbox exec west -- ip route
  isthmus sandbox exec west -- nft list ruleset
  isthmus sandbox exec underlay -- tcpdump -ni underlay`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			sb, err := s.attach()
			if err != nil {
				return err
			}
			line, err := sb.Enter(args[0], args[1:]...)
			if err != nil {
				return err
			}
			return s.run(line)
		},
	}
}

// run runs line on the caller's terminal; interrupts are for it, not for us.
func (s *sandboxCommand) run(line []string) error {
	signal.Ignore(syscall.SIGINT)
	defer signal.Reset(syscall.SIGINT)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.streams.In, s.streams.Out, s.streams.Err
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w", line[len(line)-1], err)
	}
	return nil
}
