package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progress prints what is being done, a line for each step with the time since
// the beginning. It may be used from several goroutines.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	start time.Time
}

// newProgress prints to standard error, so that standard output holds the result
// alone.
func newProgress(streams Streams) *progress {
	return &progress{w: streams.Err, start: time.Now()}
}

// say prints one step; where may be empty.
func (p *progress) say(where, step string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if where != "" {
		where += ": "
	}
	fmt.Fprintf(p.w, "%6.1fs  %s%s\n", time.Since(p.start).Seconds(), where, step)
}
