// Command isthmus-node is what a node container needs beside Kubernetes,
// containerd and Debian, in one static program:
//
//	isthmus-node boot          first process of a node: fits the container, becomes systemd
//	isthmus-node relay ON TO   relays DNS from address ON to TO
//	isthmus-node true          does nothing, to prove that a container runs
//	pause                      (called by that name) holds a pod's namespaces
//	runc-fit ARGS...           (called by that name) fits a container to the host, becomes runc
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/isthmus-mesh/isthmus/kind/node/boot"
	"github.com/isthmus-mesh/isthmus/kind/node/fit"
	"github.com/isthmus-mesh/isthmus/kind/node/relay"
)

func main() {
	if err := run(filepath.Base(os.Args[0]), os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(1)
	}
}

func run(name string, args []string) error {
	switch {
	case name == "pause":
		pause()
		return nil
	case name == "runc-fit":
		return fit.Exec(args)
	case len(args) == 1 && args[0] == "boot":
		return boot.Exec()
	case len(args) == 1 && args[0] == "true":
		return nil
	case len(args) == 3 && args[0] == "relay":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return relay.Run(ctx, args[1], args[2])
	}
	return fmt.Errorf("call me as runc-fit or pause, or with boot, true or relay ON TO")
}

// pause waits to be told to end, and reaps orphans where it is a pod's first process.
func pause() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		for pid := 1; pid > 0; {
			pid, _ = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		}
	}
}
