package ads

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// world returns what a state-of-the-world response holds. Of xds clusters and
// listeners absence means deletion, so it is all that the client is to have:
// what it has, without remove, with update, and in place of what it refused
// what it had before. Of the other types it is what changed.
func (s *subscription) world(update []*resources.Resource, remove []string) []*resources.Resource {
	if !s.known || !s.typ.Wildcard() {
		return update
	}
	all := maps.Clone(s.bodies)
	for name, bad := range s.refused {
		if bad.good != nil {
			all[name] = bad.good
		} else {
			delete(all, name)
		}
	}
	for _, name := range remove {
		delete(all, name)
	}
	for _, r := range update {
		all[r.Name] = r
	}
	return slices.SortedFunc(maps.Values(all), func(a, b *resources.Resource) int { return cmp.Compare(a.Name, b.Name) })
}

// worldVersion names what the client has after the last response: equal
// contents have equal versions, on every replica.
func (s *subscription) worldVersion() string { return versionOf(s.has) }

func versionOf(has map[string]string) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(has)) {
		if has[name] != "" {
			fmt.Fprintf(h, "%q %s\n", name, has[name])
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// sameAsBefore compares what a reconnecting client would be sent first with
// what it has, and takes note that it has it where that is the same.
func (s *subscription) sameAsBefore(update []*resources.Resource) bool {
	version := s.resumed
	s.resumed = ""
	if version == "" {
		return false
	}
	has := map[string]string{}
	for _, r := range update {
		has[r.Name] = r.Version
	}
	if len(s.forced) > 0 || versionOf(has) != version {
		return false
	}
	for _, r := range update {
		s.has[r.Name], s.bodies[r.Name], s.acked[r.Name] = r.Version, r, r.Version
		delete(s.dirty, r.Name)
	}
	s.mustAnswer = false
	return true
}

// dropSilently notes removals that state-of-the-world cannot express, since
// absence deletes only xds clusters and listeners, and returns the others.
func (s *subscription) dropSilently(remove []string) []string {
	if s.known && s.typ.Wildcard() {
		return remove
	}
	for _, name := range remove {
		s.forget(name)
		if s.names[name] {
			s.has[name] = ""
		}
		delete(s.dirty, name)
	}
	return nil
}
