package ads

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/primary/resources"
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
