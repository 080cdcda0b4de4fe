// Command isthmus-samples holds the sample applications in one static binary: the
// four services of Bookinfo, an echo server and a load client. Each server says
// in its answer who it is and whom its proxy took the caller for.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRootCommand(os.Getenv)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "isthmus-samples:", err)
		stop()
		os.Exit(1)
	}
}

func newRootCommand(getenv func(string) string) *cobra.Command {
	cmd := &cobra.Command{
		Use:           "isthmus-samples",
		Short:         "Sample applications: Bookinfo, echo, a load client and DNS look-ups",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(
		newBookinfoCommand("productpage", "The page that asks details and reviews", getenv, productpage),
		newBookinfoCommand("details", "What is known of a book", getenv, details),
		newBookinfoCommand("reviews", "What readers say of a book; v2 and v3 ask ratings", getenv, reviews),
		newBookinfoCommand("ratings", "The stars of a book", getenv, ratings),
		newEchoCommand(getenv),
		newClientCommand(),
		newGetCommand(),
		newLookupCommand(),
		newIdleCommand(),
		newRelayCommand(),
	)
	return cmd
}
