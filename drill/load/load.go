package load

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// Options says what to send. The zero value of a field means its default.
type Options struct {
	URL            string        // required; see newTarget for the schemes
	Rate           float64       // requests started per second; 0 means 10
	Duration       time.Duration // 0 means until Count or the context ends
	Count          int           // 0 means no limit
	Concurrency    int           // requests at the same time at most; 0 means 16
	Timeout        time.Duration // for one request; 0 means 5 s
	NewConnections bool          // a new connection for each HTTP request
	Header         http.Header   // sent with each HTTP request
}

func (o Options) withDefaults() (Options, error) {
	if o.Rate == 0 {
		o.Rate = 10
	}
	if o.Concurrency == 0 {
		o.Concurrency = 16
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Rate < 0 || o.Rate > 1e5 || o.Concurrency < 0 || o.Timeout < 0 || o.Duration < 0 || o.Count < 0 {
		return o, errors.New("rate (at most 100000), concurrency, timeout, duration and count must not be negative")
	}
	return o, nil
}

// Run sends requests at a steady rate and hands each one's record to each, one
// at a time, in the order in which they ended. It is an open loop: a slow answer
// delays no later request until Concurrency is reached; what is then due is
// sent as soon as there is room. It returns when Duration or Count is reached, after
// the last answer, or when ctx ends; that is no error.
func Run(ctx context.Context, opts Options, each func(Record)) error {
	opts, err := opts.withDefaults()
	if err != nil {
		return err
	}
	target, err := newTarget(opts.URL, opts)
	if err != nil {
		return err
	}
	defer target.close()
	g := generator{target: target, opts: opts, each: each, slots: make(chan struct{}, opts.Concurrency)}
	g.run(ctx)
	return nil
}

type generator struct {
	target target
	opts   Options
	slots  chan struct{}

	mu   sync.Mutex // guards calls of each
	each func(Record)
}

func (g *generator) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	interval := time.Duration(float64(time.Second) / g.opts.Rate)
	begin := time.Now()
	for n := 1; g.opts.Count == 0 || n <= g.opts.Count; n++ {
		due := time.Duration(n-1) * interval
		if g.opts.Duration > 0 && due >= g.opts.Duration {
			return
		}
		if !g.wait(ctx, begin.Add(due)) {
			return
		}
		wg.Go(func() {
			defer func() { <-g.slots }()
			g.ask(ctx, n)
		})
	}
}

// wait returns at due, with a slot taken; false when ctx ended first.
func (g *generator) wait(ctx context.Context, due time.Time) bool {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	}
	select {
	case <-ctx.Done():
		return false
	case g.slots <- struct{}{}:
		return true
	}
}

func (g *generator) ask(ctx context.Context, n int) {
	reqCtx, cancel := context.WithTimeout(ctx, g.opts.Timeout)
	defer cancel()
	start := time.Now()
	answer, status, err := g.target.ask(reqCtx)
	if err != nil && ctx.Err() != nil {
		return // stopped by us: it says nothing about the target
	}
	r := Record{N: n, Start: start, Millis: millis(time.Since(start)), Status: status, Kind: KindOf(err), Answer: answer}
	if err != nil {
		r.Message = err.Error()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.each(r)
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
