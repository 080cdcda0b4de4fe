package ads

import (
	"time"

	"github.com/isthmus-mesh/isthmus/primary/cache"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// subscription is what one client wants of one type, and has of it.
type subscription struct {
	url   string
	typ   resources.Type
	known bool // typ is set; of an unknown type there is nothing, and we say so

	wildcard bool
	names    map[string]bool
	held     int // bytes of names
	// has holds the version last sent, or claimed at the start; "" where the
	// client was told that there is none.
	has     map[string]string
	claimed map[string]bool // of has, what the client brought from before this stream
	bodies  map[string]*resources.Resource
	forced  map[string]bool // to be sent even where the version is the same

	all   bool // compare everything
	dirty map[string]bool
	// mustAnswer asks for a response though there may be nothing to say: a
	// client's start waits for it.
	mustAnswer bool
	// resumed is the version that a reconnecting state-of-the-world client has,
	// until it was compared.
	resumed string

	lastNonce string
	flight    *flight
	acked     map[string]string // versions that the client took
	refused   map[string]refusal
	sentAt    time.Time
}

func newSubscription(url string) *subscription {
	t, known := resources.ParseType(url)
	return &subscription{
		url: url, typ: t, known: known,
		names: map[string]bool{}, has: map[string]string{}, claimed: map[string]bool{}, bodies: map[string]*resources.Resource{},
		forced: map[string]bool{}, dirty: map[string]bool{}, acked: map[string]string{}, refused: map[string]refusal{},
	}
}

// subscribe adds a name. A name that is subscribed to anew is sent, whatever
// the client had.
func (s *subscription) subscribe(name string) {
	if name == "*" {
		s.wildcard, s.all, s.mustAnswer = true, true, true
		return
	}
	if !s.names[name] {
		s.names[name] = true
		s.held += len(name)
	}
	s.dirty[name] = true
	s.forget(name)
}

// unsubscribe takes a name away; the client forgets the resource by itself.
func (s *subscription) unsubscribe(name string) {
	if name == "*" {
		s.wildcard = false
		for had := range s.has {
			if !s.names[had] {
				s.forget(had)
			}
		}
		return
	}
	if s.names[name] {
		delete(s.names, name)
		s.held -= len(name)
	}
	if !s.wildcard {
		s.forget(name)
	}
}

func (s *subscription) forget(name string) {
	delete(s.has, name)
	delete(s.claimed, name)
	delete(s.bodies, name)
	delete(s.forced, name)
	delete(s.refused, name)
	delete(s.acked, name)
}

// claim notes what the client says that it has from before this stream.
func (s *subscription) claim(versions map[string]string) {
	for name, version := range versions {
		if version != "" && (s.wildcard || s.names[name]) {
			s.has[name], s.claimed[name] = version, true
			s.acked[name] = version
		}
	}
	s.all = true
}

// mark notes which names may have to be sent after the state changed.
func (s *subscription) mark(names []string) {
	for _, name := range names {
		if _, had := s.has[name]; s.wildcard || s.names[name] || had {
			s.dirty[name] = true
		}
	}
}

// force makes name be sent again, unless the client refused that version.
func (s *subscription) force(name string) {
	if s.names[name] {
		s.forced[name] = true
		s.dirty[name] = true
	}
}

// compare looks at all names that may differ and returns what is to be sent and
// what is to be taken away. Names that neither applies to are clean after it.
func (s *subscription) compare(state *cache.State) (update []*resources.Resource, remove []string) {
	if s.all {
		s.all = false
		for name := range s.candidates(state) {
			s.dirty[name] = true
		}
	}
	for name := range s.dirty {
		r := s.lookup(state, name)
		switch {
		case r != nil && s.wants(state, r):
			update = append(update, r)
		case r == nil && s.toRemove(state, name):
			remove = append(remove, name)
		default:
			delete(s.dirty, name)
			delete(s.forced, name)
		}
	}
	return update, remove
}

// candidates returns every name that the client has, asked for, or may have.
func (s *subscription) candidates(state *cache.State) map[string]bool {
	out := map[string]bool{}
	for name := range s.has {
		out[name] = true
	}
	for name := range s.names {
		out[name] = true
	}
	if s.wildcard && s.known {
		for _, set := range []*cache.Set{state.Shared, state.Own} {
			for name := range set.All(s.typ) {
				out[name] = true
			}
		}
	}
	return out
}

// lookup returns the resource that the client is to have under name, or nil.
func (s *subscription) lookup(state *cache.State, name string) *resources.Resource {
	if !s.known || !s.wildcard && !s.names[name] {
		return nil
	}
	return state.Get(s.typ, name)
}

// wants reports whether the client has to be sent r.
func (s *subscription) wants(state *cache.State, r *resources.Resource) bool {
	if bad, ok := s.refused[r.Name]; ok && bad.Version == r.Version {
		return false
	}
	had, ok := s.has[r.Name]
	if ok && s.claimed[r.Name] && state.Doubtful(r) {
		return false
	}
	return s.forced[r.Name] || !ok || had != r.Version
}

// toRemove reports whether the client has to be told that there is no resource
// of that name: it has one, or asked for it and has no answer yet.
func (s *subscription) toRemove(state *cache.State, name string) bool {
	had, ok := s.has[name]
	if ok && had == "" || !ok && !s.names[name] {
		return false
	}
	return !state.Withheld(name, s.claimed[name] || !ok)
}

// hasSome reports whether the client has a resource of that name.
func (s *subscription) hasSome(name string) bool { return s.has[name] != "" }

// sending notes that the resources and removals are on their way.
func (s *subscription) sending(nonce string, now time.Time, update []*resources.Resource, remove []string) {
	f := &flight{nonce: nonce, since: now}
	for _, r := range update {
		if s.has[r.Name] != r.Version || s.forced[r.Name] {
			f.items = append(f.items, item{name: r.Name, version: r.Version, before: s.good(r.Name)})
		}
		s.has[r.Name], s.bodies[r.Name] = r.Version, r
		delete(s.claimed, r.Name)
		delete(s.forced, r.Name)
		delete(s.dirty, r.Name)
	}
	for _, name := range remove {
		s.forget(name)
		if s.names[name] {
			s.has[name] = ""
		}
		delete(s.dirty, name)
	}
	s.lastNonce, s.flight, s.mustAnswer, s.sentAt = nonce, f, false, now
}
