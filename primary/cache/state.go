package cache

import (
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// State is what a proxy is to be sent at one moment.
type State struct {
	Shared *Set // the same for its whole group
	Own    *Set // its inbound side; a sidecar's only
	// Since is when the cache was given the snapshot that last changed this.
	Since time.Time
	limits
}

// limits says what a State cannot know. It is comparable.
type limits struct {
	unread bool // the proxy's own cluster was not listed yet
	blank  bool // some cluster was neither listed nor found in the checkpoint
	known  bool // the snapshot has the proxy's pod; true for gateways
}

// Get returns the resource of that name, or nil.
func (s *State) Get(t resources.Type, name string) *resources.Resource {
	if r := s.Own.Get(t, name); r != nil {
		return r
	}
	return s.Shared.Get(t, name)
}

// Withheld reports whether a resource that State does not have must not be
// taken from a client all the same. The inbound side of a pod that the snapshot
// does not know stays as it is. And what a client claims to have from before it
// came to this server may be there, in a cluster that was not read yet.
func (s *State) Withheld(name string, claimed bool) bool {
	switch {
	case strings.HasPrefix(name, resources.InboundName):
		return !s.known
	case !claimed:
		return false
	case name == resources.EntryName, strings.HasSuffix(name, "."+api.ZoneCluster):
		return s.unread
	case strings.HasPrefix(name, resources.EntryPrefix):
		return s.unread || s.blank
	case strings.HasSuffix(name, "."+api.ZoneClusterSet), strings.HasSuffix(name, "."+api.SNISuffix):
		return s.blank
	}
	return false
}

// Doubtful reports whether r is a load assignment without endpoints only because
// a cluster was not read: it must not take the place of what a client claims.
func (s *State) Doubtful(r *resources.Resource) bool {
	return r.Empty && (s.Withheld(r.Name, true) || r.Wide && s.blank)
}

// Complete reports whether nothing is withheld for want of knowledge.
func (s *State) Complete() bool { return !s.blank && !s.unread }

// Known reports whether the snapshot has the proxy's pod, where it needs to.
func (s *State) Known() bool { return s.known }

// ChangedSince returns the names that may differ from old, a State of the same
// proxy. It is false where everything has to be compared.
func (s *State) ChangedSince(old *State) (Names, bool) {
	if old == nil || s.limits != old.limits {
		return Names{}, false
	}
	names, ok := s.Shared.ChangedSince(old.Shared)
	if !ok {
		return Names{}, false
	}
	if s.Own != old.Own {
		for _, set := range []*Set{old.Own, s.Own} {
			for t := range resources.Type(resources.TypeCount) {
				for name := range set.All(t) {
					names.add(t, name)
				}
			}
		}
	}
	return names, true
}
