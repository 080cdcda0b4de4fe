package ads

import (
	"time"

	"google.golang.org/grpc/codes"

	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// loop serves until the client goes or something is wrong. Requests, changes
// and patience running out are all that wakes it.
func (st *stream) loop(first *request) error {
	requests, broken := st.reader()
	if err := st.take(first); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		st.refresh()
		wait, err := st.flush()
		if err != nil {
			return err
		}
		timer.Reset(wait)
		select {
		case r := <-requests:
			if err := st.take(r); err != nil {
				return err
			}
		case err := <-broken:
			return ended(err)
		case <-st.member.Changed():
		case <-timer.C:
		case <-st.wire.Context().Done():
			return nil
		}
	}
}

// reader hands requests over one at a time, so that a client that asks faster
// than it is served is held back by flow control.
func (st *stream) reader() (<-chan *request, <-chan error) {
	requests, broken := make(chan *request), make(chan error, 1)
	go func() {
		for {
			r, _, err := st.wire.receive()
			if err != nil {
				broken <- err
				return
			}
			select {
			case requests <- r:
			case <-st.wire.Context().Done():
				return
			}
		}
	}()
	return requests, broken
}

// take lets the session have a request.
func (st *stream) take(r *request) error {
	st.mu.Lock()
	o, err := st.session.handle(r)
	st.mu.Unlock()
	if err != nil {
		return asStatus(err, codes.InvalidArgument)
	}
	if o.nacked {
		st.server.metrics.nacks.WithLabelValues(typeLabel(r.url)).Inc()
		st.server.log.Warn("proxy refused resources", "proxy", st.node.id, "type_url", r.url, "nonce", r.nonce,
			"refused", len(o.refused), "resources", o.refused[:min(len(o.refused), maxListed)], "err", clip(r.refused, maxShown))
	}
	return nil
}

// refresh brings the session to the newest state; those between are skipped.
func (st *stream) refresh() {
	state := st.member.State()
	st.mu.Lock()
	defer st.mu.Unlock()
	if state != nil && state != st.session.state {
		st.session.update(state)
	}
}

// flush sends what is due and returns how long to wait at most before the next
// look.
func (st *stream) flush() (time.Duration, error) {
	for {
		now := time.Now()
		st.mu.Lock()
		r, wait := st.session.next(now)
		oldest := st.session.oldest()
		st.mu.Unlock()
		if r == nil {
			return st.patience(wait, oldest, now)
		}
		if err := st.push(r); err != nil {
			return 0, err
		}
	}
}

// patience bounds wait by when the oldest unanswered response is overdue.
func (st *stream) patience(wait time.Duration, oldest, now time.Time) (time.Duration, error) {
	limit := time.Hour
	if !oldest.IsZero() {
		if limit = st.server.opts.AnswerTimeout - now.Sub(oldest); limit <= 0 {
			st.server.metrics.cut.Inc()
			return 0, errUnheard
		}
	}
	if wait > 0 {
		limit = min(limit, wait)
	}
	return limit, nil
}

// push sends one response. A client that does not read makes it block, until
// the stream is ended for that.
func (st *stream) push(r *response) error {
	m := st.server.metrics
	watchdog := time.AfterFunc(st.server.opts.SendTimeout, func() {
		m.cut.Inc()
		st.end(errUnread)
	})
	err := st.wire.send(r)
	watchdog.Stop()
	if err != nil {
		return asStatus(err, codes.Unavailable)
	}
	label := typeLabel(r.url)
	m.pushes.WithLabelValues(label).Inc()
	m.bytes.WithLabelValues(label).Add(float64(r.size()))
	if since := st.session.state.Since; st.since.Before(since) {
		m.latency.Observe(time.Since(since).Seconds())
	}
	return nil
}

func (r *response) size() (n int) {
	for _, res := range r.resources {
		n += res.Size()
	}
	return n
}

func typeLabel(url string) string {
	t, ok := resources.ParseType(url)
	if !ok {
		return "unknown"
	}
	return t.String()
}

// maxListed bounds how many names stand in one line of the log.
const maxListed = 10

// maxShown bounds, in bytes, what a client's words take up in a log or status.
const maxShown = 2048

func clip(s string, most int) string {
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
