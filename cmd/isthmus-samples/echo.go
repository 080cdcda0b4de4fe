package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

// echoOptions are the addresses of the echo server; an empty one is not served.
type echoOptions struct {
	http, tcp, banner, grpc string
	linger                  time.Duration
}

func newEchoCommand(getenv func(string) string) *cobra.Command {
	var opts echoOptions
	cmd := &cobra.Command{
		Use:   "echo",
		Short: "Answer over HTTP, TCP and gRPC with who was reached and who called",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runEcho(cmd.Context(), opts, selfFrom("echo", getenv))
		},
	}
	cmd.Flags().StringVar(&opts.http, "http", ":8080", "address for HTTP/1.1, HTTP/2 without TLS, and gRPC health")
	cmd.Flags().StringVar(&opts.tcp, "tcp", ":9090", "address for TCP: the client speaks first, each line comes back")
	cmd.Flags().StringVar(&opts.banner, "banner", ":9091", "address for TCP: the server speaks first")
	cmd.Flags().StringVar(&opts.grpc, "grpc", ":7070", "address for gRPC health alone")
	cmd.Flags().DurationVar(&opts.linger, "linger", defaultLinger, "go on serving HTTP for so long after the signal to end")
	return cmd
}

func runEcho(ctx context.Context, opts echoOptions, s self) error {
	group, ctx := errgroup.WithContext(ctx)
	start := func(addr string, serve func(context.Context, net.Listener) error) error {
		if addr == "" {
			return nil
		}
		l, err := listen(ctx, addr)
		if err == nil {
			group.Go(func() error { return serve(ctx, l) })
		}
		return err
	}
	for _, err := range []error{
		start(opts.http, func(ctx context.Context, l net.Listener) error { return serveHTTP(ctx, l, echoHandler(s), opts.linger) }),
		start(opts.tcp, func(ctx context.Context, l net.Listener) error { return serveTCP(ctx, l, s, false) }),
		start(opts.banner, func(ctx context.Context, l net.Listener) error { return serveTCP(ctx, l, s, true) }),
		start(opts.grpc, func(ctx context.Context, l net.Listener) error { return serveHTTP(ctx, l, echoHandler(s), opts.linger) }),
	} {
		if err != nil {
			group.Go(func() error { return err })
		}
	}
	return group.Wait()
}

// echoHandler answers every path; gRPC calls go to the health service.
func echoHandler(s self) http.Handler {
	health := newHealthServer(s)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && r.Header.Get("Content-Type") == "application/grpc" {
			health.ServeHTTP(w, r)
			return
		}
		out := map[string]any{"served": s.serve(w, r, true), "method": r.Method, "path": r.URL.Path, "host": r.Host, "protocol": r.Proto}
		if d, err := time.ParseDuration(r.URL.Query().Get("delay")); err == nil {
			pause(r.Context(), d)
		}
		writeJSON(w, http.StatusOK, out)
	})
}

// pause waits for d, a minute at most.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(min(d, time.Minute)):
	case <-ctx.Done():
	}
}

// serveTCP answers connections until ctx ends, then closes them.
func serveTCP(ctx context.Context, l net.Listener, s self, speaksFirst bool) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		wg.Go(func() {
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			defer conn.Close()
			if err := talk(conn, s, speaksFirst); err != nil && ctx.Err() == nil {
				slog.Debug("connection ended", "peer", conn.RemoteAddr(), "err", err)
			}
		})
	}
}

// talk says the banner, before or after the first line, and echoes every other.
func talk(conn net.Conn, s self, speaksFirst bool) error {
	in := bufio.NewReaderSize(conn, 4096)
	if !speaksFirst {
		if _, err := in.ReadSlice('\n'); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(conn, s.answer().Banner()); err != nil {
		return err
	}
	_, err := io.Copy(conn, in)
	return err
}
