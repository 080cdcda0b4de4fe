package registry

import (
	"maps"
	"slices"
	"time"
)

// Status is what the registry knows of one linked cluster.
type Status struct {
	Cluster string
	Secret  string // name of its remote secret
	Server  string // of the last accepted secret
	// Accepted says that the secret passed its check; while it is false,
	// RefusedReason says why. A cluster that was read before goes on being read.
	Accepted      bool
	RefusedReason string
	// Reachable says that a small read was answered in the last 10 s.
	Reachable     bool
	LastReachable time.Time // zero if never
	Synced        bool      // everything has been listed at least once
	ServerVersion string
	Message       string // the last error of a probe, or of a reader that gave up
	Trouble       string // what keeps the reader from being up to date
	Fault         string // refuse or drop, while a drill has the API server seem so
}

// Refusal is a remote secret that leads to no cluster of its own.
type Refusal struct{ Secret, Cluster, Reason string }

// Statuses returns the state of every cluster that has a remote secret, sorted.
func (r *Registry) Statuses() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Status, 0, len(r.members))
	for _, name := range slices.Sorted(maps.Keys(r.members)) {
		m := r.members[name]
		m.mu.Lock()
		out = append(out, m.status)
		m.mu.Unlock()
	}
	return out
}

// Refusals returns the secrets that are surplus or lead nowhere.
func (r *Registry) Refusals() []Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Refusal
	for _, s := range r.surplus {
		out = append(out, Refusal{s.secret, s.cluster, s.err.Error()})
	}
	return out
}

// Look returns the same as Statuses, and whether the secrets have been listed:
// until then nobody knows which clusters are linked.
func (r *Registry) Look() (statuses []Status, listed bool) {
	r.mu.Lock()
	listed = r.looked
	r.mu.Unlock()
	return r.Statuses(), listed
}
