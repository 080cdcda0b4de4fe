package ads

import (
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/primary/cache"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// Limits on what one client may ask for.
const (
	maxTypes      = 16       // types on one stream, known or not
	maxNames      = 100000   // names subscribed to, of one type
	maxNameLength = 2048     // bytes of a name or type URL
	maxHeld       = 16 << 20 // bytes of all names subscribed to
)

// errRequest is wrapped by errors about requests that no client should send.
var errRequest = errors.New("invalid request")

// request is a discovery request of either protocol.
type request struct {
	url     string
	nonce   string // of the response that it answers; empty if of none
	refused string // error of a NACK; empty for an ACK

	// Delta.
	subscribe, unsubscribe []string
	versions               map[string]string // what the client has from before
	// State of the world.
	names   []string
	version string
}

// response is a discovery response of either protocol. In state-of-the-world it
// holds all that the client is to have of xds clusters and listeners.
type response struct {
	url, nonce string
	version    string // state of the world
	resources  []*resources.Resource
	removed    []string // delta
}

// session is the protocol with one client: a state machine without I/O. Its
// methods are called by one goroutine at a time.
type session struct {
	sotw    bool
	started time.Time
	state   *cache.State // nil before the first
	types   map[string]*subscription
	counter uint64

	blocked    time.Time         // since when listeners wait for others' answers; zero while they do not
	awaited    map[string]string // by xds cluster: the load assignment of a new one that was not asked for yet
	awaitUntil time.Time
}

func newSession(sotw bool, now time.Time) *session {
	return &session{sotw: sotw, started: now, types: map[string]*subscription{}, awaited: map[string]string{}}
}

// outcome says what a request did, for metrics and logs.
type outcome struct {
	acked, nacked, stale bool
	refused              []string
}

// handle takes in a request. The error wraps errRequest and ends the stream.
func (s *session) handle(r *request) (outcome, error) {
	if err := r.check(); err != nil {
		return outcome{}, err
	}
	sub, first := s.types[r.url], false
	if sub == nil {
		if len(s.types) >= maxTypes {
			return outcome{}, fmt.Errorf("%w: more than %d types", errRequest, maxTypes)
		}
		first = true
		sub = newSubscription(r.url)
		s.types[r.url] = sub
	}
	var o outcome
	if !first && r.nonce != "" {
		o = sub.settle(r)
	}
	if s.sotw {
		if !o.stale {
			s.adopt(sub, r, first)
		}
	} else {
		s.amend(sub, r, first)
	}
	if len(sub.names) > maxNames {
		return o, fmt.Errorf("%w: more than %d names of %s", errRequest, maxNames, r.url)
	}
	if s.held() > maxHeld {
		return o, fmt.Errorf("%w: names of more than %d bytes", errRequest, maxHeld)
	}
	if sub.known && sub.typ == resources.Endpoints {
		s.arrived(sub)
	}
	return o, nil
}

// held returns how many bytes of names the client is subscribed to.
func (s *session) held() (n int) {
	for _, sub := range s.types {
		n += sub.held
	}
	return n
}

func (r *request) check() error {
	if r.url == "" {
		return fmt.Errorf("%w: no type url", errRequest)
	}
	if len(r.subscribe)+len(r.unsubscribe) > 2*maxNames || len(r.names) > maxNames || len(r.versions) > 2*maxNames {
		return fmt.Errorf("%w: too many names", errRequest)
	}
	for _, list := range [][]string{{r.url}, r.subscribe, r.names} {
		for _, name := range list {
			if len(name) > maxNameLength {
				return fmt.Errorf("%w: a name of %d bytes, at most %d", errRequest, len(name), maxNameLength)
			}
		}
	}
	return nil
}

// settle takes a request as the answer to the response that its nonce names. A
// stale or repeated answer settles nothing.
func (s *subscription) settle(r *request) outcome {
	if s.flight != nil && r.nonce == s.flight.nonce {
		refused := s.answer(r.refused)
		return outcome{acked: r.refused == "", nacked: r.refused != "", refused: refused}
	}
	return outcome{stale: r.nonce != s.lastNonce}
}

// amend takes in the changes of a delta request. They count even when it
// answers a response that is out of date.
func (s *session) amend(sub *subscription, r *request, first bool) {
	if first && len(r.subscribe) == 0 && sub.known && sub.typ.Wildcard() {
		sub.subscribe("*")
	}
	for _, name := range r.unsubscribe {
		sub.unsubscribe(name)
	}
	for _, name := range r.subscribe {
		sub.subscribe(name)
	}
	if first {
		sub.mustAnswer = sub.mustAnswer || !sub.known
		sub.claim(r.versions)
	}
}

// adopt takes in the complete list of names of a state-of-the-world request.
func (s *session) adopt(sub *subscription, r *request, first bool) {
	want := map[string]bool{}
	for _, name := range r.names {
		want[name] = true
	}
	wildcard := want["*"] || len(want) == 0 && sub.known && sub.typ.Wildcard() && (first || sub.wildcard)
	delete(want, "*")
	for name := range sub.names {
		if !want[name] {
			sub.unsubscribe(name)
		}
	}
	for name := range want {
		if !sub.names[name] {
			sub.subscribe(name)
		}
	}
	switch {
	case wildcard && !sub.wildcard:
		sub.subscribe("*")
	case !wildcard && sub.wildcard:
		sub.unsubscribe("*")
	}
	if first {
		sub.mustAnswer = sub.mustAnswer || !sub.known || sub.typ.Wildcard()
		sub.resumed = r.version
	}
}

// update brings the session to a newer state of the same proxy.
func (s *session) update(state *cache.State) {
	names, known := state.ChangedSince(s.state)
	for _, sub := range s.types {
		switch {
		case !sub.known:
		case known:
			sub.mark(names[sub.typ])
		default:
			sub.all = true
		}
	}
	s.state = state
}
