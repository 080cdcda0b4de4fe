// Package progress prints what long work is doing, a line for each step.
package progress

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// A Printer writes lines with the seconds since it was made. Any number of
// goroutines may use it.
type Printer struct {
	mu    sync.Mutex
	out   io.Writer
	start time.Time
}

// New returns a Printer to out.
func New(out io.Writer) *Printer { return &Printer{out: out, start: time.Now()} }

// Say prints one line about where; a broken pipe is nobody's error.
func (p *Printer) Say(where, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "%5.1fs  %-12s %s\n", time.Since(p.start).Seconds(), where, fmt.Sprintf(format, args...))
}
