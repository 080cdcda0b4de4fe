package draining

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/federation"
)

// Options say how a drain, or a return, is done.
type Options struct {
	Timeout  time.Duration     // of a drain: how long it is waited for
	Force    bool              // do what is unsafe
	Over     time.Duration     // of a return: how long its steps take together
	Steps    []int             // of a return: the shares, in per cent, rising to 100
	Progress func(step string) // required
}

// Times of a drain.
const (
	lookEvery = 2 * time.Second
	// quietFor is how long nothing that moves may be seen before a cluster is empty.
	quietFor = 5 * time.Second
	// renewal is after what time proxies have ended connections that they keep for
	// requests, and some more. (max_connection_duration)
	renewal  = 35 * time.Second
	tellFor  = 30 * time.Second // how long control planes may take to take a drain up
	writeFor = 15 * time.Second
	// speakEvery is how often it is said that nothing has changed.
	speakEvery = 10 * time.Second
)

// Result is what became of a drain or a return.
type Result struct {
	Cluster string    `json:"cluster"`
	Stage   string    `json:"stage"` // draining, drained, returning or in use
	Share   int       `json:"share"` // per cent of its usual traffic
	Since   time.Time `json:"since,omitzero"`
	Changed bool      `json:"changed"` // by this command
	// Empty says that nothing at all is left; Moved that nothing is left that moves.
	Empty   bool     `json:"empty"`
	Moved   bool     `json:"moved"`
	Left    []Left   `json:"left,omitempty"`
	Seconds float64  `json:"seconds,omitempty"` // over which requests of Left were counted
	Stays   []Stay   `json:"stays,omitempty"`
	Unseen  []string `json:"unseen,omitempty"`
	Seen    bool     `json:"seen"` // its proxies could be asked
}

// inUse is the stage of a cluster that is not drained.
const inUse = "in use"

func (r *Result) become(d *federation.Drain) {
	r.Stage, r.Share, r.Since = inUse, d.ShareOf(), time.Time{}
	if d != nil {
		r.Stage, r.Since = string(d.Stage), d.Since
	}
}

// Run drains: it writes the annotation, waits until everybody has taken it up, and
// then until nothing that moves is left. When it is interrupted, or the time is up,
// the cluster goes on draining; the result says how far it is.
func (p *Plan) Run(ctx context.Context, o Options) (Result, error) {
	r := Result{Cluster: p.Cluster, Stays: p.Stays}
	if err := p.Safe(o.Force); err != nil {
		return r, err
	}
	now, said, err := p.target.now(ctx)
	if err != nil {
		return r, err
	}
	places, err := p.places(ctx, said)
	if err != nil {
		return r, err
	}
	want := &federation.Drain{Stage: federation.Draining, Since: time.Now().UTC().Truncate(time.Second)}
	if now != nil && !now.Since.IsZero() {
		want.Since = now.Since
	}
	if now.ShareOf() > 0 || len(said) < len(places) {
		if err := write(ctx, places, want); err != nil {
			return r, err
		}
		r.Changed = true
		o.Progress("traffic is kept away from " + p.Cluster + " from now on")
	} else {
		want = now
		o.Progress(fmt.Sprintf("%s is %s since %s already", p.Cluster, now.Stage, since(now.Since)))
	}
	r.become(want)
	if err := p.target.awaitTaken(ctx, true, o.Progress); err != nil {
		return r, p.interrupted(err)
	}
	if p.byPeers {
		r.Moved = true
		return r, nil
	}
	return r, p.awaitEmpty(ctx, o, places, want, &r)
}

// places are where the drain is written: at all that say something already, at
// least at those that this way of draining uses.
func (p *Plan) places(ctx context.Context, said []place) ([]place, error) {
	if !p.byPeers {
		return append([]place{ownPlace(p.target.There)}, withoutOwn(said)...), nil
	}
	var out []place
	for _, name := range p.target.PeerNames() {
		at := linkPlace(p.target.Peers[name], p.Cluster)
		_, err := at.read(ctx)
		switch {
		case apierrors.IsNotFound(err): // it does not read the cluster
		case err != nil && !errors.Is(err, federation.ErrDrain):
			return nil, err
		default:
			out = append(out, at)
		}
	}
	return out, nil
}

func withoutOwn(said []place) []place {
	var out []place
	for _, p := range said {
		if p.object.GetKind() != "Namespace" {
			out = append(out, p)
		}
	}
	return out
}

// write makes all places say d, also while the command is being interrupted: one
// that says something else is harder to understand than a moment's wait.
func write(ctx context.Context, places []place, d *federation.Drain) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeFor)
	defer cancel()
	var errs error
	for _, at := range places {
		errs = errors.Join(errs, at.write(ctx, d))
	}
	return errs
}

// unchanged reports an error where somebody else has changed the drain meanwhile:
// the last word counts, not the longest wait.
func (t *Target) unchanged(ctx context.Context, d *federation.Drain) error {
	now, _, err := t.now(ctx)
	if err == nil && now.String() != d.String() {
		err = unsafeError{fmt.Errorf("somebody else has changed the drain of %s meanwhile: it is %s", t.Name, cmp.Or(now.String(), inUse)), "isthmus status"}
	}
	return err
}

// awaitTaken waits until the peers' links say that the cluster is draining, or no
// longer.
func (t *Target) awaitTaken(ctx context.Context, want bool, progress func(string)) error {
	ctx, cancel := context.WithTimeout(ctx, tellFor)
	defer cancel()
	for _, name := range t.PeerNames() {
		peer := t.Peers[name]
		err := cluster.Until(ctx, fmt.Sprintf("%s to see the drain of %s", name, t.Name), func(ctx context.Context) (string, error) {
			all, err := links(ctx, peer)
			if err != nil {
				return "", err
			}
			if link, ok := all[t.Name]; ok && draining(link) != want {
				return fmt.Sprintf("its link is %s and says nothing of it", link.Status.State), nil
			}
			return "", nil
		})
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			progress(err.Error() + "; going on")
		case err != nil:
			return err
		}
	}
	return nil
}

// awaitEmpty watches until nothing that moves has been seen for a while, and notes
// that in the cluster.
func (p *Plan) awaitEmpty(ctx context.Context, o Options, places []place, d *federation.Drain, r *Result) error {
	waiting, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	w := newWatcher(p)
	defer w.close()
	r.Seen = true
	said, spoke := "", time.Time{}
	var quiet time.Duration
	var all, last []Left // of the quiet looks of late
	for {
		sight, first, err := w.look(waiting)
		if err != nil {
			sight.Unseen = append(sight.Unseen, err.Error())
		}
		if !first && waiting.Err() == nil {
			r.Left, r.Unseen, r.Seconds = sight.Left, sight.Unseen, sight.Span.Seconds()
			if quiet, all, last = quiet+sight.Span, append(all, sight.Left...), sight.Left; !sight.Moved() {
				quiet, all = 0, nil
			}
			if words := sight.Words(); words != said || time.Since(spoke) >= speakEvery {
				said, spoke = words, time.Now()
				o.Progress(p.Cluster + ": " + words)
			}
		}
		if left := settled(all, last); quiet >= quietFor && (!idle(left) || quiet >= renewal) {
			r.Left, r.Seconds = left, quiet.Seconds()
			r.Moved, r.Empty = true, len(r.Left) == 0
			if err := p.target.unchanged(ctx, d); err != nil {
				return err
			}
			d = &federation.Drain{Stage: federation.Drained, Since: d.Since}
			r.become(d)
			return write(ctx, places, d)
		}
		select {
		case <-waiting.Done():
			if ctx.Err() != nil {
				return p.interrupted(ctx.Err())
			}
			return nil // the result says what is left
		case <-time.After(lookEvery):
		}
	}
}

// settled are the requests of several looks, and the connections of the last.
func settled(all, last []Left) []Left {
	var out []Left
	for _, l := range joined(all) {
		l.Connections = 0
		if at := slices.IndexFunc(last, func(o Left) bool { return o.Service == l.Service && o.From == l.From && o.Stays == l.Stays }); at >= 0 {
			l.Connections = last[at].Connections
		}
		if l.Requests > 0 || l.Connections > 0 {
			out = append(out, l)
		}
	}
	return out
}

// idle reports whether all that is left are connections on which nothing was asked:
// proxies end those soon.
func idle(left []Left) bool {
	return len(left) > 0 && !slices.ContainsFunc(left, func(l Left) bool { return l.Requests > 0 })
}

// interrupted says how to go on.
func (p *Plan) interrupted(err error) error {
	if !errors.Is(err, context.Canceled) {
		return err
	}
	return unsafeError{fmt.Errorf("%s goes on draining: %w", p.Cluster, err), fmt.Sprintf("isthmus drain %s waits for it again; isthmus undrain %s takes it back", p.Cluster, p.Cluster)}
}

func since(t time.Time) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return t.UTC().Format(time.DateTime)
}

// Print writes the result of a drain for people.
func (r Result) Print(w io.Writer) error {
	switch {
	case !r.Seen && r.Moved:
		fmt.Fprintf(w, "the other clusters keep away from %s since %s; whether it is empty cannot be seen from here\n", r.Cluster, since(r.Since))
	case r.Empty:
		fmt.Fprintf(w, "%s is empty: drained since %s, and no mesh traffic was seen for %.0f s\n", r.Cluster, since(r.Since), r.Seconds)
	case r.Moved:
		fmt.Fprintf(w, "%s is drained since %s: all has left that moves; for %.0f s nothing was seen but\n", r.Cluster, since(r.Since), r.Seconds)
	case len(r.Left) == 0:
		fmt.Fprintf(w, "whether %s is empty is not known yet; it goes on draining (since %s)\n", r.Cluster, since(r.Since))
	default:
		fmt.Fprintf(w, "%s is not empty yet; it goes on draining (since %s), and has\n", r.Cluster, since(r.Since))
	}
	if len(r.Left) > 0 {
		if err := printLeft(w, r.Seconds, r.Left); err != nil {
			return err
		}
	}
	for _, u := range r.Unseen {
		fmt.Fprintf(w, "  not seen: %s\n", u)
	}
	printStays(w, r.Stays)
	next := fmt.Sprintf("isthmus undrain %s brings its traffic back", r.Cluster)
	if !r.Moved {
		next = fmt.Sprintf("isthmus drain %s waits again; ", r.Cluster) + next
	}
	_, err := fmt.Fprintf(w, "next: %s\n", next)
	return err
}
