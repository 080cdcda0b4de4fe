package registry

import (
	"context"
	"sync"
	"time"
)

// retryAfter is how long a cluster whose reader gave up is left alone.
const retryAfter = 30 * time.Second

// member is one linked cluster. run owns the generations; what Statuses reads
// is under mu.
type member struct {
	r      *Registry
	name   string
	gate   *gate
	cancel context.CancelFunc // of run; under Registry.mu
	secret string             // in use; under Registry.mu
	goneAt time.Time          // since when it has no secret; under Registry.mu

	inbox chan remote // at most the newest
	found chan finding
	done  chan struct{} // closed when run has ended

	active, pending *generation // run's
	access          Access      // run's: the last that was accepted
	retryAt         time.Time   // run's
	damp            damper      // run's

	mu     sync.Mutex
	hash   [32]byte
	status Status
}

// newMember makes the member of a cluster. The lock of r is held.
func newMember(r *Registry, name string) *member {
	g := r.gate(name)
	return &member{
		r: r, name: name, gate: g, inbox: make(chan remote, 1), found: make(chan finding), done: make(chan struct{}),
		status: Status{Cluster: name, Fault: g.Mode().String()},
	}
}

// deliver hands over the cluster's secret; only the newest counts. The caller
// holds Registry.mu.
func (m *member) deliver(s remote) {
	m.secret = s.secret
	m.mu.Lock()
	same := m.hash == s.hash && m.status.Secret == s.secret
	m.hash, m.status.Secret = s.hash, s.secret
	m.mu.Unlock()
	if same {
		return
	}
	select {
	case <-m.inbox:
	default:
	}
	m.inbox <- s // only deliver sends, so there is room
}

// run lives as long as the cluster is linked. Before it starts, an earlier
// member of the same name must be gone.
func (m *member) run(ctx context.Context, before <-chan struct{}) {
	defer close(m.done)
	if before != nil {
		<-before
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	defer func() {
		m.pending.stop()
		m.active.stop()
		m.r.opts.Remove(m.name)
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-m.inbox:
			m.take(ctx, s)
		case f := <-m.found:
			m.learn(ctx, f)
		case <-m.pending.syncedChan():
			m.swap(ctx)
		case <-tick.C:
			m.tick(ctx, time.Now())
		}
	}
}

// take looks at a new secret. One that is refused changes nothing but the status.
func (m *member) take(ctx context.Context, s remote) {
	if s.err != nil {
		m.r.opts.Log.Warn("remote secret refused", "cluster", m.name, "err", s.err)
		m.update(func(st *Status) { st.Accepted, st.RefusedReason = false, s.err.Error() })
		return
	}
	m.update(func(st *Status) { st.Accepted, st.RefusedReason, st.Server = true, "", s.access.Server })
	m.access = s.access
	m.begin(ctx, 0)
}

// begin starts a new generation beside the one in use, in place of one that
// has not come so far.
func (m *member) begin(ctx context.Context, delay time.Duration) {
	m.pending.stop()
	m.pending, m.retryAt = nil, time.Time{}
	g, err := newGeneration(m, m.access)
	if err != nil {
		m.update(func(st *Status) { st.Accepted, st.RefusedReason = false, err.Error() })
		return
	}
	m.pending = g
	g.start(ctx, delay)
}

// learn takes what a generation found out.
func (m *member) learn(ctx context.Context, f finding) {
	if f.gen != m.pending && f.gen != m.active {
		return
	}
	if f.ended {
		m.gaveUp(f)
		return
	}
	failedBefore := f.gen.lastErr != nil
	f.gen.lastErr = f.err
	if f.err != nil {
		if f.gen == m.active || m.active == nil {
			m.damp.failed()
			m.update(func(st *Status) { st.Message = f.err.Error() })
		}
		return
	}
	if f.gen == m.pending && !f.gen.reading {
		if err := m.r.claim(f.identity.UID, m.name); err != nil {
			m.update(func(st *Status) { st.Accepted, st.RefusedReason = false, err.Error() })
			m.pending.stop()
			m.pending, m.retryAt = nil, time.Now().Add(retryAfter)
			return
		}
		m.update(func(st *Status) { st.Accepted, st.RefusedReason = true, "" })
		f.gen.read()
	}
	recovered := m.answered(f.at)
	if f.gen == m.active && m.pending == nil && (recovered || failedBefore && m.active.reader.Trouble() != "") {
		// Its watches may wait for long before they try again.
		m.r.opts.Log.Info("cluster answers again", "cluster", m.name)
		m.begin(ctx, jitter(500*time.Millisecond))
	}
}

// gaveUp handles a reader that ended by itself. What it has read stays in use.
func (m *member) gaveUp(f finding) {
	m.r.opts.Log.Warn("reader gave up", "cluster", m.name, "err", f.err)
	m.update(func(st *Status) { st.Message = f.err.Error() })
	if f.gen == m.pending {
		m.pending.stop()
		m.pending = nil
	}
	m.retryAt = time.Now().Add(retryAfter + jitter(retryAfter))
}

// answered notes that a read was answered; it reports whether that is the first
// after an outage. A cluster that flaps counts as reachable later than that.
func (m *member) answered(at time.Time) (recovered bool) {
	m.update(func(st *Status) {
		if !st.Reachable {
			recovered = !st.LastReachable.IsZero() && m.damp.since.IsZero()
			if !m.damp.returns(at) {
				st.Message = flapping
				return
			}
		}
		st.Reachable, st.LastReachable, st.Message = true, at, ""
	})
	return recovered
}

// swap puts the generation that has synced in place of the old one, which is
// closed only after.
func (m *member) swap(ctx context.Context) {
	old := m.active
	m.active, m.pending = m.pending, nil
	m.r.opts.Swap(m.name, m.active.reader)
	if old != nil {
		m.r.opts.Log.Info("client replaced", "cluster", m.name, "server", m.active.cluster.Server)
	}
	old.stop()
	version, _ := serverVersion(ctx, m.active.cluster.Client, m.active.cluster.Server)
	m.update(func(st *Status) {
		st.Synced = true
		if version != "" {
			st.ServerVersion = version
		}
	})
}

func (m *member) tick(ctx context.Context, now time.Time) {
	trouble := m.trouble()
	m.mu.Lock()
	stale := m.status.Reachable && now.Sub(m.status.LastReachable) >= m.r.opts.ReachableFor
	changed := m.status.Trouble != trouble
	m.mu.Unlock()
	if stale {
		m.damp.lost(now)
	}
	if stale || changed {
		m.update(func(st *Status) { st.Reachable, st.Trouble = st.Reachable && !stale, trouble })
	}
	if !m.retryAt.IsZero() && now.After(m.retryAt) && m.pending == nil {
		m.begin(ctx, 0)
	}
}

// trouble says why the newest secret or data is not in use, or "".
func (m *member) trouble() string {
	if m.active != nil && m.pending != nil && m.pending.lastErr != nil {
		return "the newest secret is not in use yet: " + m.pending.lastErr.Error()
	}
	for _, g := range []*generation{m.pending, m.active} {
		if g != nil && g.reading {
			if t := g.reader.Trouble(); t != "" {
				return t
			}
		}
	}
	return ""
}

// update changes the status and tells the caller when that makes a difference
// beside the time of the last answer.
func (m *member) update(change func(*Status)) {
	m.mu.Lock()
	before := m.status
	change(&m.status)
	after := m.status
	m.mu.Unlock()
	before.LastReachable, after.LastReachable = time.Time{}, time.Time{}
	if before != after {
		m.r.opts.Change()
	}
}
