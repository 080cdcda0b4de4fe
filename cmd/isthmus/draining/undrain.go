package draining

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/federation"
)

// ErrSteps is wrapped where the steps of a return are no steps.
var ErrSteps = errors.New("steps of a return")

// CheckSteps refuses shares that are not from 1 to 100, or do not rise to 100.
func CheckSteps(steps []int) error {
	if len(steps) == 0 || steps[len(steps)-1] != 100 {
		return fmt.Errorf("%w: the last one is 100", ErrSteps)
	}
	for i, s := range steps {
		if s < 1 || s > 100 || i > 0 && s <= steps[i-1] {
			return fmt.Errorf("%w: %d: shares are from 1 to 100, and each is more than the one before", ErrSteps, s)
		}
	}
	return nil
}

// Return brings the traffic of t back, in steps that rise from what it is given
// now. When it is interrupted the share stays as it is.
func Return(ctx context.Context, t *Target, o Options) (Result, error) {
	r := Result{Cluster: t.Name}
	if err := CheckSteps(o.Steps); err != nil {
		return r, err
	}
	now, said, err := t.now(ctx)
	if err != nil {
		return r, err
	}
	r.become(now)
	if len(said) == 0 {
		o.Progress(t.Name + " is in use; there is nothing to do")
		return r, nil
	}
	if now == nil { // nothing but texts that cannot be read
		return r, t.end(ctx, said, &r)
	}
	if err := t.ready(ctx, o.Force); err != nil {
		return r, err
	}
	at := slices.IndexFunc(o.Steps, func(s int) bool { return s > now.ShareOf() })
	steps := o.Steps[max(at, 0):]
	for i, share := range steps {
		if i > 0 {
			if err := t.hold(ctx, o, pauseOf(o, len(steps)), &r); err != nil {
				return r, err
			}
			if err := t.unchanged(ctx, now); err != nil {
				return r, err
			}
		}
		if share == 100 {
			o.Progress(t.Name + " is given all of its usual traffic")
			return r, t.end(ctx, said, &r)
		}
		now = &federation.Drain{Stage: federation.Returning, Share: share, Since: now.Since}
		if err := write(ctx, said, now); err != nil {
			return r, t.stopped(err, r.Share)
		}
		r.become(now)
		r.Changed = true
		o.Progress(fmt.Sprintf("%s is given %d per cent of its usual traffic", t.Name, share))
	}
	return r, nil
}

// end takes the annotations away.
func (t *Target) end(ctx context.Context, said []place, r *Result) error {
	if err := write(ctx, said, nil); err != nil {
		return t.stopped(err, r.Share)
	}
	r.become(nil)
	r.Changed = true
	return t.awaitTaken(ctx, false, func(string) {})
}

// pauseOf is how long each step lasts.
func pauseOf(o Options, steps int) time.Duration { return o.Over / time.Duration(max(1, steps-1)) }

// hold waits for a step's time. The links are looked at meanwhile: what is not well
// is given no more.
func (t *Target) hold(ctx context.Context, o Options, pause time.Duration, r *Result) error {
	until := time.NewTimer(pause)
	defer until.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return t.stopped(ctx.Err(), r.Share)
		case <-until.C:
			return nil
		case <-look.C:
			if err := t.ready(ctx, o.Force); err != nil && ctx.Err() == nil {
				return t.stopped(err, r.Share)
			}
		}
	}
}

// ready refuses to bring traffic back to a cluster that its peers do not reach.
func (t *Target) ready(ctx context.Context, force bool) error {
	if force {
		return nil
	}
	var bad []string
	for _, name := range t.PeerNames() {
		all, err := links(ctx, t.Peers[name])
		if err != nil {
			return err
		}
		link, ok := all[t.Name]
		if state := link.Status.State; ok && state != v1alpha1.LinkConnected {
			bad = append(bad, fmt.Sprintf("the link from %s is %s", name, state))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return unsafeError{fmt.Errorf("%w: %s is not well: %s", ErrUnsafe, t.Name, strings.Join(bad, ", ")),
		"isthmus check tells what is not well; --force brings traffic back all the same"}
}

// stopped says how to go on.
func (t *Target) stopped(err error, share int) error {
	next := fmt.Sprintf("isthmus undrain %s goes on from there; isthmus drain %s takes it back", t.Name, t.Name)
	if n := Next(err); n != "" {
		next = n + "; then " + next
	}
	return unsafeError{fmt.Errorf("%s stays at %d per cent of its usual traffic (annotation %s): %w", t.Name, share, api.AnnotationDrain, err), next}
}

// Say says in one line what became of a return.
func (r Result) Say() string {
	if r.Stage == inUse {
		return r.Cluster + " is in use"
	}
	return fmt.Sprintf("%s is %s at %d per cent", r.Cluster, r.Stage, r.Share)
}
