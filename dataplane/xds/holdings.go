package xds

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
)

// holdings is everything accepted so far. It is not safe for concurrent use.
type holdings struct {
	tables map[string]*table
}

// A table holds the resources of one type.
type table struct {
	held     map[string]Resource
	needs    map[string][]string  // name → names of the referred type
	wanted   map[string]int       // name → how many resources refer to it; for types asked for by name
	absent   map[string]bool      // wanted, and the server said that these do not exist
	refused  map[string]Refusal   // the last version that was refused
	waiting  map[string]time.Time // not usable before what they need has come; since when
	answered bool                 // a response was received, or the last good was read
}

func newHoldings() *holdings {
	h := &holdings{tables: make(map[string]*table)}
	for _, t := range Types() {
		h.tables[t] = &table{
			held: map[string]Resource{}, needs: map[string][]string{}, wanted: map[string]int{},
			absent: map[string]bool{}, refused: map[string]Refusal{}, waiting: map[string]time.Time{},
		}
	}
	return h
}

// commit takes in what ch sets and removes, and returns how to undo that.
func (h *holdings) commit(typeURL string, ch change) (undo func()) {
	t := h.tables[typeURL]
	var undos []func()
	for name, r := range ch.set {
		undos = append(undos, h.put(typeURL, name, r))
		delete(t.absent, name)
		delete(t.refused, name)
	}
	for _, name := range ch.removed {
		undos = append(undos, h.remove(typeURL, name))
		delete(t.refused, name)
		if !wildcard(typeURL) {
			t.absent[name] = true
		}
	}
	return func() {
		for _, u := range slices.Backward(undos) {
			u()
		}
	}
}

// put holds r and returns how to undo it.
func (h *holdings) put(typeURL, name string, r Resource) (undo func()) {
	t := h.tables[typeURL]
	old, had := t.held[name]
	t.held[name] = r
	h.setNeeds(typeURL, name, references(r.Message))
	return func() {
		if had {
			h.put(typeURL, name, old)
			return
		}
		h.remove(typeURL, name)
	}
}

// remove drops name and returns how to undo it.
func (h *holdings) remove(typeURL, name string) (undo func()) {
	t := h.tables[typeURL]
	old, had := t.held[name]
	delete(t.held, name)
	delete(t.waiting, name)
	h.setNeeds(typeURL, name, nil)
	return func() {
		if had {
			delete(t.absent, name)
			h.put(typeURL, name, old)
		}
	}
}

// setNeeds records what name refers to, and counts it where it is wanted.
func (h *holdings) setNeeds(typeURL, name string, needs []string) {
	of, ok := h.tables[referred(typeURL)]
	if !ok {
		return
	}
	t := h.tables[typeURL]
	for _, n := range needs {
		of.wanted[n]++
	}
	for _, n := range t.needs[name] {
		if of.wanted[n]--; of.wanted[n] == 0 {
			delete(of.wanted, n)
		}
	}
	if t.needs[name] = needs; len(needs) == 0 {
		delete(t.needs, name)
	}
}

// wants returns whether a resource of typeURL and that name is to be taken.
func (h *holdings) wants(typeURL string) func(string) bool {
	if wildcard(typeURL) {
		return func(string) bool { return true }
	}
	wanted := h.tables[typeURL].wanted
	return func(name string) bool { return wanted[name] > 0 }
}

// prune drops resources of typeURL that nothing refers to any more.
func (h *holdings) prune(typeURL string) {
	t := h.tables[typeURL]
	maps.DeleteFunc(t.held, func(name string, _ Resource) bool { return t.wanted[name] == 0 })
	maps.DeleteFunc(t.absent, func(name string, _ bool) bool { return t.wanted[name] == 0 })
	maps.DeleteFunc(t.refused, func(name string, _ Refusal) bool { return t.wanted[name] == 0 })
}

// versions is what a new stream tells the server that it has.
func (h *holdings) versions(typeURL string) map[string]string {
	t := h.tables[typeURL]
	out := make(map[string]string, len(t.held))
	for name, r := range t.held {
		out[name] = r.Version
	}
	return out
}

// missing lists what is referred to and was neither received nor denied, sorted.
func (h *holdings) missing(typeURL string) []string {
	var names []string
	t := h.tables[typeURL]
	for name := range t.wanted {
		if _, ok := t.held[name]; !ok && !t.absent[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// complete reports whether both wildcard types were answered and nothing
// visible still waits.
func (h *holdings) complete() bool {
	for _, typeURL := range Types() {
		if t := h.tables[typeURL]; wildcard(typeURL) && !t.answered {
			return false
		}
	}
	return true
}

// messages returns what is held, but for named resources that nothing refers to
// any more and that prune has yet to drop.
func (t *table) messages(named bool) map[string]proto.Message {
	out := make(map[string]proto.Message, len(t.held))
	for name, r := range t.held {
		if !named || t.wanted[name] > 0 {
			out[name] = r.Message
		}
	}
	return out
}
