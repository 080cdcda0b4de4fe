//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/drill/load"
)

// Caller is a pod from which tests call.
type Caller struct {
	cluster             *Cluster
	namespace, pod, box string
}

// NewCaller starts the client of client.yaml in namespace and waits for it.
func NewCaller(t *testing.T, c *Cluster, namespace string) *Caller {
	t.Helper()
	c.Apply(t, namespace, "client.yaml")
	pod := c.Ready(t, namespace, "app=client", 1)[0]
	return &Caller{cluster: c, namespace: namespace, pod: pod.Name, box: "client"}
}

// Call sends n requests and returns what came of them; failures are in the summary.
func (c *Caller) Call(ctx context.Context, url string, n int, flags ...string) (load.Summary, error) {
	args := append([]string{"/isthmus-samples", "client", url, "--count", fmt.Sprint(n), "--rate", "50", "--timeout", "4s"}, flags...)
	var s load.Summary
	var out string
	var err error
	for range 3 { // an exec whose connection breaks is told from one that succeeded only by what is missing of its output
		if out, err = c.cluster.Exec(ctx, c.namespace, c.pod, c.box, args...); out != "" || err != nil {
			break
		}
	}
	if jsonErr := json.Unmarshal([]byte(out), &s); jsonErr != nil {
		return s, fmt.Errorf("call %s: %w", url, errors.Join(jsonErr, err))
	}
	return s, nil // the exit code only repeats s.Failed
}

// Reaches waits until all of ten requests are answered by the clusters named, and each
// of these answers some.
func (c *Caller) Reaches(t *testing.T, url string, within time.Duration, clusters ...string) load.Summary {
	t.Helper()
	var s load.Summary
	Eventually(t, within, fmt.Sprintf("%s calls %s and reaches %v", c.cluster.Name, url, clusters), func(ctx context.Context) (err error) {
		if s, err = c.Call(ctx, url, 10); err != nil {
			return err
		}
		return reached(s, clusters)
	})
	return s
}

// Fails waits until no request is answered.
func (c *Caller) Fails(t *testing.T, url string, within time.Duration) load.Summary {
	t.Helper()
	var s load.Summary
	Eventually(t, within, c.cluster.Name+" reaches nothing at "+url, func(ctx context.Context) (err error) {
		if s, err = c.Call(ctx, url, 3); err != nil {
			return err
		}
		if s.OK > 0 {
			return fmt.Errorf("%d of %d were answered, by %v", s.OK, s.Requests, s.Clusters)
		}
		return nil
	})
	return s
}

func reached(s load.Summary, clusters []string) error {
	if s.Failed > 0 {
		return fmt.Errorf("%d of %d failed: %v, last: %s", s.Failed, s.Requests, s.Errors, s.LastError)
	}
	if len(s.Clusters) != len(clusters) {
		return fmt.Errorf("answered by %v", s.Clusters)
	}
	for _, name := range clusters {
		if s.Clusters[name].Requests == 0 {
			return fmt.Errorf("answered by %v", s.Clusters)
		}
	}
	return nil
}

// Load is steady traffic in the background.
type Load struct {
	t      *testing.T
	stop   context.CancelFunc
	done   chan error
	mu     sync.Mutex
	record []load.Record
}

// Traffic sends rate requests a second until Stop, or for span at most; flags are more of the client's.
func (c *Caller) Traffic(t *testing.T, url string, rate int, span time.Duration, flags ...string) *Load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &Load{t: t, stop: stop, done: make(chan error, 1)}
	r, w := io.Pipe()
	go func() {
		args := []string{"/isthmus-samples", "client", url, "--watch", "--rate", fmt.Sprint(rate), "--duration", span.String(), "--concurrency", "64", "--timeout", "4s"}
		err := c.cluster.Stream(ctx, c.namespace, c.pod, c.box, w, append(args, flags...)...)
		w.CloseWithError(err)
	}()
	go l.read(r)
	t.Cleanup(func() { stop(); <-l.done })
	return l
}

func (l *Load) read(r *io.PipeReader) {
	defer close(l.done)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var rec load.Record
		if err := json.Unmarshal(lines.Bytes(), &rec); err != nil {
			continue // a line cut off by Stop
		}
		l.mu.Lock()
		l.record = append(l.record, rec)
		l.mu.Unlock()
	}
	r.Close()
}

// Records returns what has been answered so far.
func (l *Load) Records() []load.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]load.Record(nil), l.record...)
}

// Since returns the records of requests that began at or after a moment.
func (l *Load) Since(begin time.Time) []load.Record {
	var out []load.Record
	for _, r := range l.Records() {
		if !r.Start.Before(begin) {
			out = append(out, r)
		}
	}
	return out
}

// Flowing waits until n more requests have been answered.
func (l *Load) Flowing(n int) {
	l.t.Helper()
	want := len(l.Records()) + n
	Eventually(l.t, 30*time.Second, fmt.Sprintf("%d more answers", n), func(context.Context) error {
		if have := len(l.Records()); have < want {
			return fmt.Errorf("%d of %d", have, want)
		}
		return nil
	})
}

// Stop ends the traffic and returns every record.
func (l *Load) Stop() []load.Record {
	l.stop()
	<-l.done
	return l.Records()
}

// failures lists the kinds of errors of records, for a message.
func failures(records []load.Record) string {
	var b strings.Builder
	n := 0
	for _, r := range records {
		if r.Kind == "" {
			continue
		}
		if n++; n <= 5 {
			fmt.Fprintf(&b, "\n  %s #%d %s %s", r.Start.Format("15:04:05.000"), r.N, r.Kind, r.Message)
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d failed:%s", n, len(records), b.String())
}
