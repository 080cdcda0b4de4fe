// Command isthmus-proxy runs beside a workload or as a gateway: it intercepts a
// pod's traffic, obtains its identity and runs its data plane.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker: -X main.version=v0.1.0.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and returns its exit code: 0, or 1 with the
// error printed.
func run(ctx context.Context, args []string, env func(string) string, out, errs io.Writer) int {
	root := newRootCommand(env, out, errs)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(errs, "isthmus-proxy:", err)
		return 1
	}
	return 0
}
