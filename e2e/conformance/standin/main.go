// Command standin is the three network tools that pods of the MCS conformance
// suite run: nc, nslookup and socat. The sandbox has no registry, so it gives
// this program under the suite's image names. It does what is asked of it for
// real, by DNS, TCP and UDP, and knows only the options the suite uses; any
// other is an error. Which tool it is, the name that it is called by says.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// A tool returns an error that main prints; main alone exits.
type tool func(args []string, in io.Reader, out io.Writer) error

func main() {
	name := filepath.Base(os.Args[0])
	run, ok := map[string]tool{"nc": netcat, "nslookup": nslookup, "socat": socat}[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "%s: call this program as nc, nslookup or socat\n", name)
		os.Exit(2)
	}
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
