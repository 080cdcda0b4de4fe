package xds

import (
	"maps"
	"time"

	"google.golang.org/protobuf/proto"
)

// visible returns what of the holdings may be used at now. An xds cluster waits
// for its load assignment and a listener for its route configurations, at most
// patience; until then the version in shown, if there is one, stands in. So no
// request meets a half-received configuration. Only types in changed, and those
// in which something waits, are looked at; the others are shared with shown.
// retry is when to look again; zero when nothing waits.
func (h *holdings) visible(shown State, changed touched, now time.Time, patience time.Duration) (state State, retry time.Time) {
	state = make(State, len(h.tables))
	for typeURL, t := range h.tables {
		of := h.tables[referred(typeURL)]
		names, differs := changed[typeURL]
		switch {
		case shown[typeURL] != nil && !differs && len(t.waiting) == 0:
			state[typeURL] = shown[typeURL]
		case of == nil && shown[typeURL] != nil && names != nil:
			state[typeURL] = t.updated(shown[typeURL], names)
		case of == nil:
			state[typeURL] = t.messages(!wildcard(typeURL))
		default:
			state[typeURL], retry = t.warmed(of, shown[typeURL], retry, now, patience)
		}
	}
	return state, retry
}

// touched says which names of which types may differ from what is shown; nil
// names mean all.
type touched map[string][]string

// touch returns what ch touches: its own names, and any of the type that it refers to.
func touch(typeURL string, ch change) touched {
	names := make([]string, 0, len(ch.set)+len(ch.removed))
	for name := range ch.set {
		names = append(names, name)
	}
	out := touched{typeURL: append(names, ch.removed...)}
	if of := referred(typeURL); of != "" {
		out[of] = nil
	}
	return out
}

// updated returns a copy of shown in which names are as held.
func (t *table) updated(shown map[string]proto.Message, names []string) map[string]proto.Message {
	out := maps.Clone(shown)
	for _, name := range names {
		if r, ok := t.held[name]; ok {
			out[name] = r.Message
			continue
		}
		delete(out, name)
	}
	return out
}

func (t *table) warmed(of *table, shown map[string]proto.Message, retry, now time.Time, patience time.Duration) (map[string]proto.Message, time.Time) {
	out := make(map[string]proto.Message, len(t.held))
	for name, r := range t.held {
		m := r.Message
		if until := t.waitsFor(name, of, now, patience); !until.IsZero() {
			retry = earlier(retry, until)
			if m = shown[name]; m == nil {
				continue
			}
		}
		out[name] = m
	}
	return out, retry
}

// waitsFor returns until when name is to wait for what it needs of the type
// held in of; zero means that it waits no longer.
func (t *table) waitsFor(name string, of *table, now time.Time, patience time.Duration) time.Time {
	if of.hasAll(t.needs[name]) {
		delete(t.waiting, name)
		return time.Time{}
	}
	since, ok := t.waiting[name]
	if !ok {
		since, t.waiting[name] = now, now
	}
	if until := since.Add(patience); until.After(now) {
		return until
	}
	return time.Time{}
}

func (t *table) hasAll(names []string) bool {
	for _, name := range names {
		if _, ok := t.held[name]; !ok && !t.absent[name] {
			return false
		}
	}
	return true
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
