package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/drill/load"
)

// orphanLimit ends a client whose connection to us broke without its noticing.
const orphanLimit = 30 * time.Minute

// PodLoad says where the load comes from: a pod that has the samples' program.
type PodLoad struct {
	Cluster                   *cluster.Cluster
	Namespace, Pod, Container string
	URL                       string
	Rate                      float64       // per second
	Timeout                   time.Duration // for one request
}

// Bounds of how many requests may be under way at once.
const leastConcurrency, mostConcurrency = 64, 4096

// concurrency lets the load go on at its rate though every request takes its whole timeout: one that is held up
// by others would be measured from too late.
func (l PodLoad) concurrency() int {
	return min(max(leastConcurrency, int(math.Ceil(l.Rate*l.Timeout.Seconds()))), mostConcurrency)
}

// Run sends the load until ctx ends. Times of the records are moved to this
// machine's clock, so that they compare with what was broken from here.
func (l PodLoad) Run(ctx context.Context, each func(load.Record)) error {
	command := []string{"/isthmus-samples", "client", l.URL, "--watch", "--rate", fmt.Sprint(l.Rate), "--timeout", l.Timeout.String(), "--concurrency", fmt.Sprint(l.concurrency()), "--duration", orphanLimit.String()}
	out, in := io.Pipe()
	var stderr bytes.Buffer
	done := make(chan error, 1)
	go func() {
		err := l.Cluster.Exec(ctx, l.Namespace, l.Pod, l.Container, command, in, &stderr)
		in.CloseWithError(io.EOF)
		done <- err
	}()
	readErr := readRecords(out, time.Now, each)
	out.CloseWithError(io.ErrClosedPipe)
	err := <-done
	if ctx.Err() != nil {
		return nil
	}
	if text := strings.TrimSpace(stderr.String()); text != "" {
		err = errors.Join(err, errors.New(text))
	}
	return errors.Join(err, readErr)
}

// readRecords decodes records until the end of in.
func readRecords(in io.Reader, now func() time.Time, each func(load.Record)) error {
	dec := json.NewDecoder(in)
	for {
		var r load.Record
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read records: %w", err)
		}
		r.Start = now().Add(-time.Duration(r.Millis * float64(time.Millisecond)))
		each(r)
	}
}
