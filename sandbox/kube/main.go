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
	"os"
	"os/signal"
	"syscall"

	"github.com/isthmus-mesh/isthmus/sandbox/kube/control"
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
