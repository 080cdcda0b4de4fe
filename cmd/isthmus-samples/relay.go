package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// relay passes TCP connections on and holds back what passes.
type relay struct {
	to     string        // host:port
	delay  time.Duration // of a round trip; each way has half of it
	linger time.Duration // how long connections may go on when the relay is to end
}

// lingerDefault lets connections move away before their relay does.
const lingerDefault = 20 * time.Second

func newRelayCommand() *cobra.Command {
	r := relay{}
	var listen string
	cmd := &cobra.Command{
		Use:     "relay",
		Short:   "Pass TCP connections on, later: the drill slow puts it before a gateway",
		Example: "  isthmus-samples relay --listen :15443 --to isthmus-eastwest:15443 --delay 200ms",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return err
			}
			return r.serve(cmd.Context(), l)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", ":15443", "where to listen")
	cmd.Flags().StringVar(&r.to, "to", "", "host:port to pass on to")
	cmd.Flags().DurationVar(&r.delay, "delay", 200*time.Millisecond, "added to each round trip")
	cmd.Flags().DurationVar(&r.linger, "linger", lingerDefault, "how long open connections may go on after a signal to end")
	_ = cmd.MarkFlagRequired("to") // fails only for a flag that is not there
	return cmd
}

// serve passes connections of l on until ctx ends, and then what is open for linger at most.
func (r relay) serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	open, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var wg sync.WaitGroup
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		wg.Go(func() { r.pass(open, conn) })
	}
	timer := time.AfterFunc(r.linger, cancel)
	defer timer.Stop()
	wg.Wait()
	return nil
}

// pass connects conn with its target until either side ends it, or ctx does.
func (r relay) pass(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	dialer := net.Dialer{Timeout: 10 * time.Second}
	up, err := dialer.DialContext(ctx, "tcp", r.to)
	if err != nil {
		return
	}
	defer up.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close(); up.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { delayed(up, conn, r.delay/2) })
	wg.Go(func() { delayed(conn, up, r.delay/2) })
	wg.Wait()
}

// chunk is what was read at once, and when it is due.
type chunk struct {
	data []byte
	due  time.Time
}

// ahead bounds how many chunks wait; beyond that the sender waits.
const ahead = 256

// delayed copies from to to, each byte by delay later; it takes none of the throughput away. An
// end of from becomes one of to, an error closes both.
func delayed(to, from net.Conn, delay time.Duration) {
	chunks := make(chan chunk, ahead)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(chunks)
	wg.Go(func() {
		for c := range chunks {
			time.Sleep(time.Until(c.due))
			if len(c.data) == 0 {
				halfClose(to)
			} else if _, err := to.Write(c.data); err != nil {
				from.Close() // ends the reader; what is left in chunks fails as well
			}
		}
	})
	for {
		buffer := make([]byte, 32<<10)
		n, err := from.Read(buffer)
		due := time.Now().Add(delay)
		if n > 0 {
			chunks <- chunk{buffer[:n], due}
		}
		if errors.Is(err, io.EOF) {
			chunks <- chunk{nil, due}
			return
		}
		if err != nil {
			to.Close()
			return
		}
	}
}

// halfClose says that nothing more comes.
func halfClose(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the other direction ends the connection
		return
	}
	c.Close()
}
