package registry

import (
	"slices"
	"time"
)

// A cluster that was lost flapLosses times within flapWindow is believed again
// only after it has answered every probe for flapHealth: link states that come
// and go cost every proxy more than one that stays bad. What it says is read all
// the while.
const (
	flapLosses = 3
	flapWindow = time.Minute
	flapHealth = 30 * time.Second
)

const flapping = "it answers again, but was lost 3 times within a minute: it counts as reachable after 30 s of answers"

// damper decides when a lost cluster counts as reachable again. It is pure; its
// zero value knows of no loss.
type damper struct {
	losses []time.Time // of the last flapWindow before the last one
	since  time.Time   // since when each probe was answered; zero: the last was not
}

// lost notes that the cluster is unreachable from now on.
func (d *damper) lost(now time.Time) {
	d.losses = slices.DeleteFunc(d.losses, func(at time.Time) bool { return now.Sub(at) > flapWindow })
	d.losses = append(d.losses, now)
	d.since = time.Time{}
}

// failed notes that a probe was not answered.
func (d *damper) failed() { d.since = time.Time{} }

// returns notes an answer of a lost cluster, and reports whether that makes it
// reachable.
func (d *damper) returns(at time.Time) bool {
	if d.since.IsZero() {
		d.since = at
	}
	if len(d.losses) >= flapLosses && at.Sub(d.since) < flapHealth {
		return false
	}
	d.since = time.Time{}
	return true
}
