// Package drill rehearses failure: it sends a load, breaks something, measures,
// restores, and says whether the objectives were met.
package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/drill/load"
)

// Scenario is one thing to lose.
type Scenario struct {
	Name string // such as local-endpoints
	What string // what is broken, in one sentence
	// Check refuses, before anything is changed, what would do harm.
	Check func(ctx context.Context) error
	// Break breaks it and returns at once; Restore undoes that, and is called however the
	// drill ends, also when Break failed half-way. It may be called twice.
	Break   func(ctx context.Context) error
	Restore func(ctx context.Context) error
	// Keep, if set, goes on having broken what would end by itself, from the break to the
	// restore, until its context ends. Its error ends the drill.
	Keep func(ctx context.Context) error
	// Noticed, if set, waits until the mesh itself says what is broken.
	Noticed func(ctx context.Context) error
	// During, if set, goes on breaking and mending until its context ends.
	During func(ctx context.Context) error
	// Healed, if set, waits until the mesh itself says, after the restore, that all
	// is well again.
	Healed func(ctx context.Context) error
}

// Options configures Run.
type Options struct {
	Scenario   Scenario
	Objectives Objectives
	// Load sends requests until its context ends, and hands over each one's record
	// as soon as it is known.
	Load     func(ctx context.Context, each func(load.Record)) error
	Baseline time.Duration // 0 means 5 s
	Hold     time.Duration // how long it stays broken at least; 0 means 10 s
	After    time.Duration // how long is watched after Home answers again; 0 means 3 s
	Progress func(step string)
}

// Result is a drill with its verdict.
type Result struct {
	Scenario string  `json:"scenario"`
	What     string  `json:"what"`
	Service  string  `json:"service,omitempty"` // NAMESPACE/NAME; Run leaves it to its caller
	From     string  `json:"from,omitempty"`    // the cluster that the load came from; likewise
	Rate     float64 `json:"rate,omitempty"`    // requests per second that were wanted; likewise
	Means    string  `json:"means,omitempty"`   // by which it was broken, where there are several; likewise
	Marks
	Objectives Objectives `json:"objectives"`
	Measured
	// NoticedSeconds is from the break until the mesh said so; null where the scenario
	// does not ask or it never did.
	NoticedSeconds *float64 `json:"noticedSeconds,omitempty"`
	// HealedSeconds is from the restore until the mesh said that all is well.
	HealedSeconds *float64 `json:"healedSeconds,omitempty"`
	Timeline      []Point  `json:"timeline"`
}

// firstAnswerPatience bounds the wait for the first good answer.
const firstAnswerPatience = 30 * time.Second

// restorePatience bounds the restore, which goes on when the drill is interrupted.
const restorePatience = time.Minute

// Run does the drill. An error says that it could not be done; a drill that was
// done and failed has a verdict. What was broken is restored in any case.
func Run(ctx context.Context, opts Options) (Result, error) {
	opts = opts.withDefaults()
	if err := opts.Scenario.Check(ctx); err != nil {
		return Result{}, fmt.Errorf("drill %s is not safe: %w", opts.Scenario.Name, err)
	}
	r := &runner{opts: opts}
	result, err := r.run(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("drill %s: %w", opts.Scenario.Name, err)
	}
	return result, nil
}

func (o Options) withDefaults() Options {
	if o.Baseline == 0 {
		o.Baseline = 5 * time.Second
	}
	if o.Hold == 0 {
		o.Hold = 10 * time.Second
	}
	if o.After == 0 {
		o.After = 3 * time.Second
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.Scenario.Check == nil {
		o.Scenario.Check = func(context.Context) error { return nil }
	}
	return o
}

// runner is one drill under way.
type runner struct {
	opts            Options
	marks           Marks
	noticed, healed *float64
	notes           []string

	mu      sync.Mutex
	records []load.Record // guarded by mu
}

func (r *runner) run(ctx context.Context) (Result, error) {
	loadCtx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- r.opts.Load(loadCtx, r.add) }()
	// A load that ends by itself makes all waiting pointless.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := <-ended; loadCtx.Err() == nil { // else it was told to
			cancel(fmt.Errorf("the load ended by itself: %w", errors.Join(err, errEnded)))
		}
	}()
	err := r.phases(ctx)
	stop()
	<-done
	if err != nil {
		return Result{}, err
	}
	return r.result(), nil
}

var errEnded = errors.New("no more requests")

func (r *runner) phases(ctx context.Context) (err error) {
	r.opts.Progress("wait for the first answer")
	if err := r.await(ctx, firstAnswerPatience, "a first good answer", time.Time{}, func(load.Record) bool { return true }); err != nil {
		return err
	}
	r.opts.Progress(fmt.Sprintf("baseline for %s", r.opts.Baseline))
	r.marks.Started = time.Now()
	if err := pause(ctx, r.opts.Baseline); err != nil {
		return err
	}
	r.adaptObjectives()
	defer func() { err = errors.Join(err, r.restoreAfterAll(ctx, err)) }()
	r.opts.Progress("break: " + r.opts.Scenario.What)
	r.marks.Broken = time.Now()
	if err := r.opts.Scenario.Break(ctx); err != nil {
		return fmt.Errorf("break: %w", err)
	}
	kept, stop := r.keep(ctx)
	err = r.hold(kept)
	stop()
	if err != nil {
		return err
	}
	r.opts.Progress("restore")
	r.marks.Restored = time.Now()
	if err := r.opts.Scenario.Restore(ctx); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return r.watchReturn(ctx)
}

// keep keeps broken what fades, until stop, which waits for that. Where it does not stay broken, the context
// that is returned ends with why.
func (r *runner) keep(ctx context.Context) (kept context.Context, stop func()) {
	if r.opts.Scenario.Keep == nil {
		return ctx, func() {}
	}
	kept, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.opts.Scenario.Keep(kept); err != nil && kept.Err() == nil {
			cancel(fmt.Errorf("keep it broken: %w", err))
		}
	}()
	return kept, func() { cancel(nil); <-done }
}

// adaptObjectives asks for no cluster where the answers do not name theirs.
func (r *runner) adaptObjectives() {
	r.mu.Lock()
	defer r.mu.Unlock()
	want := &r.opts.Objectives
	named := slices.ContainsFunc(r.records, func(rec load.Record) bool { return rec.Cluster != "" })
	if named {
		return
	}
	want.Home, want.Away, want.Lost, want.Same, want.WrongShare = "", "", "", false, nil
	r.notes = append(r.notes, Unnamed)
	r.opts.Progress(Unnamed)
}

// Unnamed is the note of a drill whose answers name no cluster.
const Unnamed = "the answers do not say which cluster gave them: it is judged by failures alone"

// restoreAfterAll restores what a drill that went wrong has left broken.
func (r *runner) restoreAfterAll(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	r.opts.Progress("restore after all")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restorePatience)
	defer cancel()
	if err := r.opts.Scenario.Restore(ctx); err != nil {
		return fmt.Errorf("restore after all: %w", err)
	}
	return nil
}

// hold stays broken for Hold, and until the mesh has noticed where the scenario asks.
func (r *runner) hold(ctx context.Context) error {
	r.opts.Progress(fmt.Sprintf("measure for %s", r.opts.Hold))
	if err := r.ask(ctx, r.opts.Scenario.Noticed, r.marks.Broken, "the mesh noticed", &r.noticed); err != nil {
		return err
	}
	rest := time.Until(r.marks.Broken.Add(r.opts.Hold))
	if r.opts.Scenario.During == nil {
		return pause(ctx, rest)
	}
	limited, cancel := context.WithTimeout(ctx, rest)
	defer cancel()
	if err := r.opts.Scenario.During(limited); err != nil && limited.Err() == nil {
		return fmt.Errorf("break again: %w", err)
	}
	return pause(ctx, time.Until(r.marks.Broken.Add(r.opts.Hold)))
}

// meshPatience is how long the mesh may take to notice a break or its end.
const meshPatience = time.Minute

// ask waits for what the mesh itself says, and how long after since it did. That it
// says nothing is no error here: the verdict tells.
func (r *runner) ask(ctx context.Context, wait func(context.Context) error, since time.Time, what string, into **float64) error {
	if wait == nil {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, meshPatience)
	defer cancel()
	err := wait(limited)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		r.opts.Progress(fmt.Sprintf("not within %s: %s (%v)", meshPatience, what, err))
		return nil
	}
	s := seconds(time.Since(since))
	*into = &s
	r.opts.Progress(fmt.Sprintf("%s after %.1f s", what, s))
	return nil
}

// watchReturn waits until Home answers again, FailBack at most, and then for After.
func (r *runner) watchReturn(ctx context.Context) error {
	home := r.opts.Objectives.lost()
	if home != "" && r.answered(home) {
		err := r.await(ctx, r.opts.Objectives.FailBack+r.opts.After, home+" to answer again", r.marks.Restored, func(rec load.Record) bool { return rec.Cluster == home })
		if err != nil && ctx.Err() != nil {
			return err
		}
		if err == nil {
			r.opts.Progress(home + " answers again")
		}
	}
	if err := r.ask(ctx, r.opts.Scenario.Healed, r.marks.Restored, "the mesh says that all is well", &r.healed); err != nil {
		return err
	}
	if err := pause(ctx, r.opts.After); err != nil {
		return err
	}
	r.marks.Ended = time.Now()
	return nil
}

// answered reports whether cluster gave a good answer before the break.
func (r *runner) answered(cluster string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.records, func(rec load.Record) bool {
		return rec.OK() && rec.Cluster == cluster && rec.Start.Before(r.marks.Broken)
	})
}

func (r *runner) add(rec load.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, rec)
}

// await waits for a good record that began after since and that is as match says.
func (r *runner) await(ctx context.Context, patience time.Duration, what string, since time.Time, match func(load.Record) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for seen := 0; ; {
		r.mu.Lock()
		fresh := r.records[seen:]
		seen += len(fresh)
		r.mu.Unlock()
		for _, rec := range fresh {
			if rec.OK() && rec.Start.After(since) && match(rec) {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w%s", what, context.Cause(ctx), r.lastError())
		}
	}
}

// lastError returns the text of the latest failure, to explain a wait in vain.
func (r *runner) lastError() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.records) - 1; i >= 0; i-- {
		if rec := r.records[i]; !rec.OK() {
			return fmt.Sprintf(" (last failure: %s %s)", rec.Kind, rec.Message)
		}
	}
	return ""
}

func (r *runner) result() Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	var counted []load.Record
	for _, rec := range r.records {
		if !rec.Start.Before(r.marks.Started) && rec.Start.Before(r.marks.Ended) {
			counted = append(counted, rec)
		}
	}
	out := Result{
		Scenario: r.opts.Scenario.Name, What: r.opts.Scenario.What, Marks: r.marks, Objectives: r.opts.Objectives,
		Measured: Judge(counted, r.marks, r.opts.Objectives), NoticedSeconds: r.noticed, HealedSeconds: r.healed,
		Timeline: Timeline(counted, r.marks),
	}
	out.Notes = r.notes
	if r.opts.Scenario.Noticed != nil {
		out.check("the mesh says that something is broken", r.noticed == nil, "the mesh never said that anything was broken")
	}
	if r.opts.Scenario.Healed != nil {
		out.check("the mesh says after the restore that all is well", r.healed == nil, "the mesh did not say after the restore that all is well")
	}
	return out
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
