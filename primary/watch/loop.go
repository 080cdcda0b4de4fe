package watch

import (
	"context"
	"maps"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/ingest"
	"github.com/isthmus-mesh/isthmus/remote/registry"
)

// mostHoldoff bounds the hold-off, whatever a snapshot costs.
const mostHoldoff = time.Second

// loop makes a snapshot whenever something changed, until ctx ends.
func (w *Watcher) loop(ctx context.Context) {
	tick := time.NewTicker(time.Second) // leases end by themselves
	defer tick.Stop()
	gap := w.opts.Holdoff
	for {
		began := time.Now()
		if w.step(began) {
			gap = min(max(w.opts.Holdoff, 2*time.Since(began)), mostHoldoff)
			if !pause(ctx, gap-time.Since(began)) {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-w.dirty:
		case <-tick.C:
		case <-w.held():
		}
	}
}

// step brings the inputs up to date and publishes a snapshot if that changed
// anything.
func (w *Watcher) step(now time.Time) bool {
	statuses, listed := w.registry.Look()
	if !listed {
		return false // which clusters are linked is not known yet
	}
	var ch ingest.Changes
	feeds := w.currentFeeds()
	local := feeds[w.opts.Cluster].drain()
	w.takeLinks(local)
	states := w.states(statuses, feeds, now)
	w.setClusters(states, &ch)
	w.take(w.opts.Cluster, local, &ch)
	for name, f := range feeds {
		if name != w.opts.Cluster {
			w.takeFrom(name, f, &ch)
		}
	}
	w.setResolved(&ch)
	defer w.noteUnread(statuses, feeds) // after the snapshot is out
	if w.hold.built != nil && ch.Empty() {
		if due := w.hold.due(); !due.IsZero() && !now.Before(due) {
			w.publish(w.hold.built)
		}
		return false
	}
	next := ingest.Build(w.hold.built, w.inputs, ch)
	w.metrics.built(time.Since(now), next, states, feeds)
	wait := w.hold.add(w.latest.Load(), next, ch, w.opts.Cluster, now)
	if !wait || !now.Before(w.hold.due()) {
		w.publish(next)
	}
	return true
}

// held ticks when what is held has to go out; it is nil while nothing is.
func (w *Watcher) held() <-chan time.Time {
	due := w.hold.due()
	if due.IsZero() {
		return nil
	}
	return time.After(time.Until(due))
}

func (w *Watcher) currentFeeds() map[federation.ClusterName]*feed {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.feeds)
}

// setClusters makes the inputs hold exactly the clusters of states.
func (w *Watcher) setClusters(states []ingest.ClusterState, ch *ingest.Changes) {
	keep := map[federation.ClusterName]bool{}
	for _, s := range states {
		keep[s.Name] = true
		w.inputs.SetCluster(s, ch)
	}
	for _, name := range w.inputs.ClusterNames() {
		if !keep[name] {
			w.inputs.RemoveCluster(name, ch)
			delete(w.known, name)
		}
	}
}

// takeFrom moves what changed from a remote's feed to the inputs.
func (w *Watcher) takeFrom(name federation.ClusterName, f *feed, ch *ingest.Changes) {
	if _, ok := w.inputs.Cluster(name); !ok {
		return // it is leaving
	}
	if w.known[name] == nil {
		f.compareAll()
	}
	w.take(name, f.drain(), ch)
}

// take applies a delivery. A whole one replaces, object by object, what another
// feed has said before.
func (w *Watcher) take(name federation.ClusterName, d delivery, ch *ingest.Changes) {
	known := w.known[name]
	if known == nil {
		known = map[ref]struct{}{}
		w.known[name] = known
	}
	for r := range known {
		if _, ok := d.objects[r]; d.whole && !ok {
			w.inputs.Remove(name, r.kind, r.name, ch)
			delete(known, r)
		}
	}
	for r, o := range d.objects {
		switch {
		case r.kind == kindLink:
		case o == nil:
			w.inputs.Remove(name, r.kind, r.name, ch)
			delete(known, r)
		default:
			w.inputs.Set(name, o, ch)
			known[r] = struct{}{}
		}
	}
}

// takeLinks keeps the ClusterLinks of a delivery, and hands on what drills ask of them.
func (w *Watcher) takeLinks(d delivery) {
	if d.whole {
		clear(w.links)
	}
	some := d.whole
	for r, o := range d.objects {
		if r.kind != kindLink {
			continue
		}
		some = true
		if l, ok := o.(*link); ok {
			w.links[r.name] = l
		} else {
			delete(w.links, r.name)
		}
	}
	if some {
		w.registry.SetFaults(faults(byCluster(w.links)))
	}
}

// states says how every known cluster is.
func (w *Watcher) states(statuses []registry.Status, feeds map[federation.ClusterName]*feed, now time.Time) []ingest.ClusterState {
	links := byCluster(w.links)
	out := []ingest.ClusterState{{Name: w.opts.Cluster, Local: true, Served: true, Read: true, Reachable: true, Network: w.opts.Network}}
	var remotes []federation.ClusterName
	for _, st := range statuses {
		name := federation.ClusterName(st.Cluster)
		if name == w.opts.Cluster {
			continue
		}
		remotes = append(remotes, name)
		out = append(out, state(st, links[name], feeds[name] != nil, w.start))
	}
	gone := lost(links, remotes, now)
	for i := range out {
		out[i].Lost = gone[out[i].Name]
	}
	return out
}

// noteUnread lists the clusters that Ready waits for. Those whose secret is
// refused will not come.
func (w *Watcher) noteUnread(statuses []registry.Status, feeds map[federation.ClusterName]*feed) {
	unread := []string{}
	for _, st := range statuses {
		if feeds[federation.ClusterName(st.Cluster)] == nil && st.RefusedReason == "" {
			unread = append(unread, st.Cluster)
		}
	}
	w.reads.Store(&unread)
}

// publish hands the snapshot out; whoever is slow gets the newest later.
func (w *Watcher) publish(s *federation.Snapshot) {
	w.hold.release()
	w.latest.Store(s)
	if w.opts.OnSnapshot != nil {
		w.opts.OnSnapshot(s)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ch := range w.subs {
		select {
		case <-ch:
		default:
		}
		ch <- s
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
