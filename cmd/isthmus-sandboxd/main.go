// Command isthmus-sandboxd holds a sandbox together. Nobody calls it by hand:
// `isthmus sandbox up` starts "launch", which starts "init" in new namespaces;
// a cluster's container runtime starts "container".
package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/isthmus-mesh/isthmus/sandbox/container"
	"github.com/isthmus-mesh/isthmus/sandbox/launcher"
)

// Only here can the main goroutine be bound to the main thread. All depends on
// it: the parent-death signal follows the thread that started a child, and
// /proc/PID/ns shows the namespaces of the main thread.
func init() { runtime.LockOSThread() } //nolint:gochecknoinits // see above

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "isthmus-sandboxd is started by `isthmus sandbox up`")
		os.Exit(2)
	}
	switch os.Args[1] {
	case "container":
		os.Exit(container.Main())
	case "launch":
		exit(launcher.Launch(os.Args[2:]))
	case "init":
		exit(launcher.Init(os.Args[2:]))
	default:
		exit(fmt.Errorf("no command %q", os.Args[1]))
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "isthmus-sandboxd:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
