// Command isthmus-kube is Kubernetes for the sandbox in one static program:
//
//	apiserver  etcd and kube-apiserver on loopback, for tests
//	control    a cluster's control plane
//	node       a cluster's only node
package main

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"github.com/isthmus-mesh/isthmus/sandbox/kube/control"
	"github.com/isthmus-mesh/isthmus/sandbox/kube/node"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "isthmus-kube:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("call me with apiserver, control or node")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	switch args[0] {
	case "apiserver", "control":
		return runControl(ctx, args[0], args[1:])
	case "node":
		return runNode(ctx, args[1:])
	default:
		return fmt.Errorf("no command %q: call me with apiserver, control or node", args[0])
	}
}

func runControl(ctx context.Context, command string, args []string) error {
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	var opts control.Options
	flags.StringVar(&opts.Name, "name", "cluster", "name of the cluster")
	flags.StringVar(&opts.Dir, "dir", "", "directory for certificates and data (required)")
	flags.StringVar(&opts.SocketDir, "socket-dir", "", "directory for etcd's sockets (default: -dir)")
	flags.StringVar(&opts.Bind, "bind", "127.0.0.1:0", "host:port to serve the API on")
	flags.StringVar(&opts.ServiceRange, "service-range", "10.96.0.0/16", "range of ClusterIPs")
	flags.BoolVar(&opts.Controllers, "controllers", command == "control", "run controller-manager and scheduler too")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if opts.Dir == "" {
		return fmt.Errorf("%s: -dir is required", command)
	}
	opts.Ready = func(kubeconfig string) {
		data, err := os.ReadFile(kubeconfig)
		if err == nil {
			os.Stdout.Write(data)
			os.Stdout.Close() // the reader sees the end: ready
		}
	}
	return control.Run(ctx, opts)
}

func runNode(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("node", flag.ContinueOnError)
	var opts node.Options
	flags.StringVar(&opts.Name, "name", "cluster", "name of the cluster")
	flags.StringVar(&opts.NodeName, "node-name", "", "name of the node")
	flags.StringVar(&opts.Dir, "dir", "", "directory of the control process")
	flags.StringVar(&opts.Bin, "bin", "", "directory of the programs that are images")
	flags.StringVar(&opts.Logs, "logs", "", "directory for the logs of pods")
	flags.StringVar(&opts.APIServer, "api-server", "", "host:port of the API server")
	flags.TextVar(&opts.NodeAddress, "node-address", netip.Addr{}, "address of the node")
	flags.TextVar(&opts.Pods, "pods", netip.Prefix{}, "range of pod addresses")
	flags.TextVar(&opts.LoadBalancers, "load-balancers", netip.Prefix{}, "range of LoadBalancer addresses")
	flags.TextVar(&opts.DNS, "dns", netip.Addr{}, "ClusterIP of the name server")
	flags.String("service-range", "", "not used by the node")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return node.Run(ctx, opts)
}
