package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// save brings the ledger up to date and returns the imports that waited for it, also
// with an error, which says of what it could not be brought.
// Calls must not overlap.
func (n *numbers) save(ctx context.Context, now time.Time) ([]objectKey, error) {
	n.mu.Lock()
	at := n.changed
	if n.saved == at {
		n.mu.Unlock()
		return nil, nil
	}
	n.entry.pool.Wake(now)
	n.synthetic.pool.Wake(now)
	r := retired{Entry: n.entry.pool.Resting(), Synthetic: n.synthetic.pool.Resting()}
	n.mu.Unlock()
	others, tooLong, err := n.ledger.write(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("note entry ports and addresses that were given up: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.saved
	if tooLong.Entry == nil {
		n.saved.entry = at.entry
	} else {
		err = fmt.Errorf("note entry ports that were given up: %w", tooLong.Entry)
	}
	if tooLong.Synthetic == nil {
		n.saved.synthetic = at.synthetic
	} else {
		err = errors.Join(err, fmt.Errorf("note addresses that were given up: %w", tooLong.Synthetic))
	}
	n.rest(others, now)
	var out []objectKey
	for key, want := range n.waiting {
		if n.saved.reached(want) && !before.reached(want) {
			out = append(out, key)
		}
	}
	return out, err
}

// rest has rest what the ledger says, unless it is held. The caller holds mu.
func (n *numbers) rest(r retired, now time.Time) {
	for _, e := range r.Entry {
		n.entry.pool.Rest(e, now)
	}
	for _, e := range r.Synthetic {
		n.synthetic.pool.Rest(e, now)
	}
}

// How often the ledger is written at most, tried again, and cleaned of what has
// rested enough. One write serves all who wait for it: thousands of imports may
// give something up at once.
const (
	saveGap       = 100 * time.Millisecond
	saveAgain     = time.Second
	cleanInterval = 5 * time.Minute
)

// run keeps the ledger until ctx ends. It calls again for every import that may
// go on, and report for what fails, which is tried again.
func (n *numbers) run(ctx context.Context, again func(objectKey), report func(error)) {
	clean := time.NewTicker(cleanInterval)
	defer clean.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-clean.C:
			n.clean(now)
			continue
		case <-n.dirty:
		}
		gap := saveGap
		keys, err := n.save(ctx, time.Now())
		if err != nil && ctx.Err() == nil {
			report(err)
			gap = saveAgain
			n.wake()
		}
		for _, key := range keys {
			again(key)
		}
		select {
		case <-ctx.Done():
		case <-time.After(gap):
		}
	}
}

// clean ends the rest of what has rested enough, and has the ledger written where
// that was anything.
func (n *numbers) clean(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.entry.pool.Wake(now) {
		n.changed.entry++
		n.wake()
	}
	if n.synthetic.pool.Wake(now) {
		n.changed.synthetic++
		n.wake()
	}
}
