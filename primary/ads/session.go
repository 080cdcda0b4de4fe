package ads

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
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

// maxResponse bounds the resources of one response in bytes, one resource aside,
// since clients on grpc-go take no message over 4 MiB unless told to.
const maxResponse = 2 << 20

// How long a response waits for an answer to an earlier one of another type.
const (
	orderPatience     = 5 * time.Second        // for the answer to xds clusters and load assignments
	subscribePatience = 500 * time.Millisecond // for a new xds cluster's load assignment to be asked for
)

// knownPatience is how long the first listeners of a sidecar wait for the mesh
// to know its pod, so that it does not call itself ready without an inbound
// side. A pod is often quicker than the watch that tells of it.
const knownPatience = 3 * time.Second

// resumePatience is how long a state-of-the-world client that comes with a
// configuration waits for all clusters to be read: it can only be sent
// everything, and would take what is missing for gone.
const resumePatience = 30 * time.Second

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

// next returns the response that is due now, or nil. With nil comes how long to
// wait before asking again when nothing else happens; 0 means for ever.
//
// What is new goes out in the order xds clusters, load assignments, listeners,
// route configurations, and what is gone in reverse, so that nothing refers to
// what is not there. Of each type one response is in flight at most.
func (s *session) next(now time.Time) (*response, time.Duration) {
	if s.state == nil {
		return nil, 0
	}
	for _, url := range slices.Sorted(maps.Keys(s.types)) {
		if sub := s.types[url]; !sub.known {
			if r := s.respond(sub, now, true); r != nil {
				return r, 0
			}
		}
	}
	for _, t := range []resources.Type{resources.Cluster, resources.Endpoints} {
		if r := s.respond(s.of(t), now, false); r != nil {
			return r, 0
		}
	}
	wait := s.orderWait(now)
	if wait == 0 {
		for _, t := range []resources.Type{resources.Listener, resources.Route} {
			if r := s.respond(s.of(t), now, true); r != nil {
				return r, 0
			}
		}
		wait = s.resumeWait(now)
		if s.quiet(resources.Listener) && s.quiet(resources.Route) {
			for _, t := range []resources.Type{resources.Endpoints, resources.Cluster} {
				if r := s.respond(s.of(t), now, true); r != nil {
					return r, 0
				}
			}
		}
	}
	return nil, wait
}

func (s *session) of(t resources.Type) *subscription { return s.types[t.URL()] }

// orderWait returns how long listeners still have to wait for the xds clusters
// and load assignments that they may refer to.
func (s *session) orderWait(now time.Time) time.Duration {
	var until time.Time
	if s.quiet(resources.Cluster) && s.quiet(resources.Endpoints) {
		s.blocked = time.Time{}
	} else {
		if s.blocked.IsZero() {
			s.blocked = now
		}
		until = s.blocked.Add(orderPatience)
	}
	if len(s.awaited) > 0 && s.awaitUntil.After(until) {
		until = s.awaitUntil
	}
	if l := s.of(resources.Listener); l != nil && len(l.has) == 0 && !s.state.Known() && s.started.Add(knownPatience).After(until) {
		until = s.started.Add(knownPatience)
	}
	return max(until.Sub(now), 0)
}

// quiet reports whether nothing of t is in flight.
func (s *session) quiet(t resources.Type) bool {
	sub := s.of(t)
	return sub == nil || sub.flight == nil
}

// respond returns the response that sub is due, or nil. Without removals it
// leaves what is gone for later; that there is nothing under a name that was
// just asked for is said at once.
func (s *session) respond(sub *subscription, now time.Time, removals bool) *response {
	if sub == nil || sub.flight != nil || sub.resumed != "" && s.resumeWait(now) > 0 {
		return nil
	}
	update, remove := sub.compare(s.state)
	if !removals {
		remove = slices.DeleteFunc(remove, sub.hasSome)
	}
	if s.sotw {
		if sub.sameAsBefore(update) {
			return nil
		}
		remove = sub.dropSilently(remove)
	}
	if len(update)+len(remove) == 0 && !sub.mustAnswer {
		return nil
	}
	slices.SortFunc(update, func(a, b *resources.Resource) int { return cmp.Compare(a.Name, b.Name) })
	if !s.sotw || !sub.typ.Wildcard() {
		update = portion(update)
	}
	s.counter++
	r := &response{url: sub.url, nonce: strconv.FormatUint(s.counter, 10), resources: update, removed: remove}
	if s.sotw {
		r.resources = sub.world(update, remove)
	}
	slices.Sort(r.removed)
	s.follow(sub, update, remove, now)
	sub.sending(r.nonce, now, update, remove)
	if s.sotw {
		r.version = sub.worldVersion()
	}
	return r
}

// portion returns as much of update as one response may hold; the rest stays
// due, and goes out when this was answered.
func portion(update []*resources.Resource) []*resources.Resource {
	size := 0
	for i, r := range update {
		if size += r.Size(); size > maxResponse && i > 0 {
			return update[:i]
		}
	}
	return update
}

// follow notes what has to come after a response: the load assignments of
// changed xds clusters, changed or not, since a cluster that warms anew may not
// ask for its endpoints again. (envoyproxy/envoy#13009)
func (s *session) follow(sub *subscription, update []*resources.Resource, remove []string, now time.Time) {
	if !sub.known || sub.typ != resources.Cluster {
		return
	}
	for _, name := range remove {
		delete(s.awaited, name)
	}
	endpoints := s.of(resources.Endpoints)
	for _, r := range update {
		delete(s.awaited, r.Name)
		switch {
		case r.Assignment == "":
		case endpoints != nil && endpoints.names[r.Assignment]:
			endpoints.force(r.Assignment)
		default:
			s.awaited[r.Name] = r.Assignment
			s.awaitUntil = now.Add(subscribePatience)
		}
	}
}

// arrived takes note that load assignments were asked for that new xds clusters
// wait for. They are sent even where the client says that it has them.
func (s *session) arrived(endpoints *subscription) {
	for xdsCluster, name := range s.awaited {
		if endpoints.names[name] {
			delete(s.awaited, xdsCluster)
			endpoints.force(name)
		}
	}
}

// resumeWait returns how long a client that resumes is still made to wait.
func (s *session) resumeWait(now time.Time) time.Duration {
	if !s.sotw || s.state.Complete() {
		return 0
	}
	return max(s.started.Add(resumePatience).Sub(now), 0)
}
