package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/drill/load"
)

// errFailures makes the exit code tell that some request failed.
var errFailures = errors.New("some requests failed")

func newClientCommand() *cobra.Command {
	var opts load.Options
	var headers []string
	var watch bool
	var linger time.Duration
	cmd := &cobra.Command{
		Use:   "client URL",
		Short: "Send a steady load and report on it as JSON",
		Example: `  isthmus-samples client http://reviews:9080/reviews/0 --rate 100 --duration 30s
  isthmus-samples client tcp://echo:9090 --count 10 --watch
  isthmus-samples client banner://echo:9091      (the server speaks first)
  isthmus-samples client grpc://echo:7070        (health check)`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.URL = args[0]
			var err error
			if opts.Header, err = parseHeaders(headers); err != nil {
				return err
			}
			ctx, stop := lingering(cmd.Context(), linger)
			defer stop()
			return runClient(ctx, cmd.OutOrStdout(), opts, watch)
		},
	}
	f := cmd.Flags()
	f.Float64Var(&opts.Rate, "rate", 10, "requests per second")
	f.DurationVar(&opts.Duration, "duration", 0, "how long; 0 means until --count or a signal")
	f.IntVar(&opts.Count, "count", 0, "how many; 0 means until --duration or a signal")
	f.IntVar(&opts.Concurrency, "concurrency", 16, "requests at the same time at most")
	f.DurationVar(&opts.Timeout, "timeout", 5*time.Second, "for one request")
	f.BoolVar(&opts.NewConnections, "new-connections", false, "a new connection for each HTTP request")
	f.StringArrayVarP(&headers, "header", "H", nil, "NAME: VALUE, sent with each HTTP request")
	f.DurationVar(&linger, "linger", 0, "how long to go on after a signal")
	f.BoolVar(&watch, "watch", false, "print each request as a line of JSON instead of the report")
	return cmd
}

// lingering returns a context that ends d after ctx.
func lingering(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(d, cancel) })
	return out, cancel
}

func runClient(ctx context.Context, out io.Writer, opts load.Options, watch bool) error {
	if watch {
		return watchClient(ctx, opts, out)
	}
	var records []load.Record
	if err := load.Run(ctx, opts, func(r load.Record) { records = append(records, r) }); err != nil {
		return err
	}
	summary := load.Summarize(records)
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	if err := enc.Encode(summary); err != nil {
		return err
	}
	if summary.Failed > 0 {
		return fmt.Errorf("%w: %d of %d", errFailures, summary.Failed, summary.Requests)
	}
	return nil
}

// flushEvery is how long a record may wait for others: what is written travels as a message through container runtime, kubelet and API server.
const flushEvery = 100 * time.Millisecond

// watchClient prints each record as it comes, and stops when nobody reads.
func watchClient(ctx context.Context, opts load.Options, out io.Writer) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	unread := errors.New("write record")
	var mu sync.Mutex // guards buffer
	buffer := bufio.NewWriter(out)
	enc := json.NewEncoder(buffer)
	write := func(do func() error) {
		mu.Lock()
		defer mu.Unlock()
		if err := do(); err != nil {
			stop(fmt.Errorf("%w: %w", unread, err))
		}
	}
	ended := make(chan struct{})
	var flusher sync.WaitGroup
	flusher.Go(func() {
		tick := time.NewTicker(flushEvery)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				write(buffer.Flush)
			}
		}
	})
	err := load.Run(ctx, opts, func(r load.Record) { write(func() error { return enc.Encode(r) }) })
	close(ended)
	flusher.Wait()
	write(buffer.Flush)
	if cause := context.Cause(ctx); err == nil && errors.Is(cause, unread) {
		return cause
	}
	return err
}

func parseHeaders(lines []string) (http.Header, error) {
	h := http.Header{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, fmt.Errorf("header %q is not of the form NAME: VALUE", line)
		}
		h.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return h, nil
}
