package xds

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
)

// whole names a refusal that no single resource is to blame for.
const whole = "*"

// Options configures a Client.
type Options struct {
	Conn     grpc.ClientConnInterface // required; the client does not close it
	Node     *corev3.Node             // required
	Applier  Applier                  // required
	LastGood *File                    // nil keeps nothing on disk
	Patience time.Duration            // how long a resource waits for what it refers to; 0 means 15s
	Fallback time.Duration            // how long the server may take to answer before the last good is loaded; 0 means 2s
	Log      *slog.Logger             // nil discards
	Metrics  prometheus.Registerer    // nil registers nothing
}

// A Client keeps a delta ADS stream and hands what it accepts to its Applier.
type Client struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	backoff backoff
	ready   chan struct{}
	retry   time.Time // when warming is to be looked at again; zero: not
	dirty   bool      // accepted since the last save

	mu     sync.Mutex // guards what follows; Run alone writes
	held   *holdings
	shown  State
	status Status
}

// New checks opts. It does no I/O.
func New(opts Options) (*Client, error) {
	switch {
	case opts.Conn == nil:
		return nil, errors.New("xds client: no connection")
	case opts.Node.GetId() == "":
		return nil, errors.New("xds client: no node id")
	case opts.Applier == nil:
		return nil, errors.New("xds client: no applier")
	}
	if opts.Patience == 0 {
		opts.Patience = 15 * time.Second
	}
	if opts.Fallback == 0 {
		opts.Fallback = 2 * time.Second
	}
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Client{
		opts: opts, log: log, metrics: newMetrics(opts.Metrics), ready: make(chan struct{}),
		held: newHoldings(), status: Status{Since: time.Now()},
	}, nil
}

// Ready is closed once xds clusters and listeners were received, or the last
// good was loaded, and were applied with all that they refer to.
func (c *Client) Ready() <-chan struct{} { return c.ready }

// State returns what was applied last; nil before the first.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shown
}

// Status returns the state of the stream and of each type.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.Types = make(map[string]TypeStatus, len(c.held.tables))
	for typeURL, t := range c.held.tables {
		ts := TypeStatus{Held: len(t.held), Missing: c.held.missing(typeURL)}
		for _, name := range slices.Sorted(maps.Keys(t.refused)) {
			ts.Refused = append(ts.Refused, t.refused[name])
		}
		s.Types[typeURL] = ts
	}
	return s
}

// Run keeps the stream until ctx ends. It returns nil then.
func (c *Client) Run(ctx context.Context) error {
	defer c.save()
	for {
		err := c.session(ctx)
		c.setConnected(false, err)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errLastGood) {
			continue
		}
		c.log.Warn("xds stream ended", "err", err)
		c.loadLastGood()
		if err := c.idle(ctx, c.backoff.next()); err != nil {
			return nil
		}
	}
}

// idle waits for d while warming and saving go on.
func (c *Client) idle(ctx context.Context, d time.Duration) error {
	end := time.NewTimer(d)
	defer end.Stop()
	for {
		warm, save := c.timers()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return nil
		case <-warm:
			c.rewarm()
		case <-save:
			c.save()
		}
	}
}

// timers returns when to look at warming and when to save; nil means never.
func (c *Client) timers() (warm, save <-chan time.Time) {
	if !c.retry.IsZero() {
		warm = time.After(time.Until(c.retry))
	}
	if c.dirty && c.opts.LastGood != nil {
		save = time.After(saveDelay)
	}
	return warm, save
}

func (c *Client) setConnected(connected bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.Connected != connected {
		c.status.Connected, c.status.Since = connected, time.Now()
	}
	if err != nil {
		c.status.LastError = err.Error()
	}
	c.metrics.setConnected(connected)
}

// accept takes in what the control plane sent, and returns what was refused of it.
func (c *Client) accept(resp *discoveryv3.DeltaDiscoveryResponse) []Refusal {
	c.mu.Lock()
	c.status.LastGood = false
	c.mu.Unlock()
	return c.take(resp)
}

// take takes resp in, wherever it comes from.
func (c *Client) take(resp *discoveryv3.DeltaDiscoveryResponse) []Refusal {
	typeURL, now := resp.GetTypeUrl(), time.Now()
	ch := read(resp, c.held.wants(typeURL), c.opts.Applier.Check, now)
	c.mu.Lock()
	t := c.held.tables[typeURL]
	t.answered = true
	delete(t.refused, whole)
	c.mu.Unlock()
	refused := append(ch.refused, c.try(typeURL, ch, now)...)

	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range refused {
		t.refused[r.Name] = r
	}
	c.dirty = true
	c.metrics.count(typeURL, len(ch.set), len(refused), len(t.refused))
	return refused
}

// try applies ch. Where the applier refuses the whole, halves are tried, down
// to the resource that is to blame, which is refused.
func (c *Client) try(typeURL string, ch change, now time.Time) []Refusal {
	c.mu.Lock()
	undo := c.held.commit(typeURL, ch)
	if of := referred(typeURL); of != "" {
		defer func() { c.mu.Lock(); c.held.prune(of); c.mu.Unlock() }()
	}
	c.mu.Unlock()
	err := c.apply(touch(typeURL, ch), now)
	if err == nil {
		return nil
	}
	c.mu.Lock()
	undo()
	c.mu.Unlock()
	return c.divide(typeURL, ch, err, now)
}

func (c *Client) divide(typeURL string, ch change, err error, now time.Time) []Refusal {
	names := append(slices.Sorted(maps.Keys(ch.set)), ch.removed...)
	switch {
	case len(names) == 0:
		return []Refusal{refusal(whole, "", err, now)}
	case len(names) == 1:
		return []Refusal{refusal(names[0], ch.set[names[0]].Version, err, now)}
	}
	var refused []Refusal
	for _, part := range [][]string{names[:len(names)/2], names[len(names)/2:]} {
		refused = append(refused, c.try(typeURL, ch.only(part), now)...)
	}
	return refused
}

// only returns ch for some of its names.
func (ch change) only(names []string) change {
	part := change{set: make(map[string]Resource, len(names))}
	for _, name := range names {
		if r, ok := ch.set[name]; ok {
			part.set[name] = r
			continue
		}
		part.removed = append(part.removed, name)
	}
	return part
}

// rewarm looks again at what was waiting.
func (c *Client) rewarm() {
	if err := c.apply(nil, time.Now()); err != nil {
		c.log.Error("apply what waited too long", "err", err)
	}
}

// apply hands the visible state over. On an error nothing has changed.
func (c *Client) apply(changed touched, now time.Time) error {
	c.mu.Lock()
	state, retry := c.held.visible(c.shown, changed, now, c.opts.Patience)
	complete := c.held.complete()
	c.mu.Unlock()
	if err := c.opts.Applier.Apply(state); err != nil {
		if !c.retry.IsZero() {
			c.retry = now.Add(time.Second)
		}
		return err
	}
	c.retry = retry

	c.mu.Lock()
	c.shown = state
	first := complete && retry.IsZero() && !c.status.Ready
	c.status.Ready = c.status.Ready || first
	c.mu.Unlock()
	if first {
		c.dirty = true
		c.save() // whoever is ready can be restarted
		close(c.ready)
	}
	return nil
}
