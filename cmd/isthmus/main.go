// Command isthmus is the command line of the mesh: it installs clusters, links
// them, shows and proves their state, and rehearses their failure.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	klog.SetLogger(logr.Discard()) // what client-go cannot return it would print over our own lines
	streams := Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	code := run(ctx, os.Args[1:], streams)
	stop()
	os.Exit(code)
}

// run executes one command line and returns its exit code. An error is printed
// here and nowhere else.
func run(ctx context.Context, args []string, streams Streams) int {
	root := newRootCommand(streams)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && !isSilent(err) {
		fmt.Fprintln(streams.Err, "isthmus:", describe(err))
	}
	return exitCode(err)
}
