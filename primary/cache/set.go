// Package cache holds the encoded xDS resources of a snapshot, each made once
// for all proxies that see it alike. What it does for a new snapshot grows with
// what changed: services that are the same by pointer are not looked into.
package cache

import (
	"maps"

	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// logLength is how many generations of changes a Set remembers.
const logLength = 64

// Names holds names of resources by type.
type Names [resources.TypeCount][]string

func (n *Names) add(t resources.Type, name string) { n[t] = append(n[t], name) }

// Set is what the proxies of one Group are sent at one moment. Nobody changes
// it once it is published. The nil Set is empty.
type Set struct {
	generation uint64
	byType     [resources.TypeCount]map[string]*resources.Resource
	log        []Names // what changed in the last generations, this one's last
}

// Get returns the resource of that name, or nil.
func (s *Set) Get(t resources.Type, name string) *resources.Resource {
	if s == nil {
		return nil
	}
	return s.byType[t][name]
}

// All returns the resources of a type by name. Do not change it.
func (s *Set) All(t resources.Type) map[string]*resources.Resource {
	if s == nil {
		return nil
	}
	return s.byType[t]
}

// ChangedSince returns the names that were added, changed or removed after old,
// an earlier Set of the same Group; a name may stand there twice. It is false
// where that was too long ago, and everything has to be compared.
func (s *Set) ChangedSince(old *Set) (Names, bool) {
	var out Names
	if s == old {
		return out, true
	}
	if s == nil || old == nil || old.generation > s.generation {
		return out, false
	}
	missed := s.generation - old.generation
	if missed > uint64(len(s.log)) {
		return out, false
	}
	for _, changed := range s.log[uint64(len(s.log))-missed:] {
		for t := range changed {
			out[t] = append(out[t], changed[t]...)
		}
	}
	return out, true
}

// edit is a Set in the making: maps are copied when they are first written.
type edit struct {
	set     *Set
	owned   [resources.TypeCount]bool
	changed Names
}

func newEdit(old *Set) *edit {
	next := new(Set)
	if old != nil {
		*next = *old
	}
	next.generation++
	return &edit{set: next}
}

func (e *edit) put(r *resources.Resource) {
	if e.set.byType[r.Type][r.Name] == r {
		return
	}
	e.own(r.Type)[r.Name] = r
	e.changed.add(r.Type, r.Name)
}

func (e *edit) remove(t resources.Type, name string) {
	if e.set.byType[t][name] == nil {
		return
	}
	delete(e.own(t), name)
	e.changed.add(t, name)
}

func (e *edit) own(t resources.Type) map[string]*resources.Resource {
	if !e.owned[t] {
		e.owned[t] = true
		e.set.byType[t] = maps.Clone(e.set.byType[t])
		if e.set.byType[t] == nil {
			e.set.byType[t] = map[string]*resources.Resource{}
		}
	}
	return e.set.byType[t]
}

// done returns the new Set, or old where nothing was changed.
func (e *edit) done(old *Set) *Set {
	if e.owned == [resources.TypeCount]bool{} && old != nil {
		return old
	}
	log := e.set.log
	if len(log) >= logLength {
		log = log[len(log)-logLength+1:]
	}
	e.set.log = append(log[:len(log):len(log)], e.changed)
	return e.set
}
