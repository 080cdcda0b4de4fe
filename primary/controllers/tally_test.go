package controllers

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
)

// Whatever comes, changes and goes, the changes that a follower tells lead from
// one snapshot to the next, and counts are those of a count from nothing.
func TestTally(t *testing.T) {
	var kept tally
	var follow follower
	r := rand.New(rand.NewPCG(1, 2))
	services, told := map[federation.ServiceKey]*federation.Service{}, map[objectKey]*federation.Service{}
	for step := range 300 {
		for range r.IntN(4) {
			svc := randomService(r)
			if r.IntN(3) == 0 {
				delete(services, svc.Key)
			} else {
				services[svc.Key] = svc
			}
		}
		s := federation.NewSnapshot(federation.Parts{Services: maps.Clone(services)})
		for _, c := range follow.next(s) {
			if told[c.key()] != c.old || c.old == c.now {
				t.Fatalf("step %d: %v was %p and is told as %p to %p", step, c.key(), told[c.key()], c.old, c.now)
			}
			if told[c.key()] = c.now; c.now == nil {
				delete(told, c.key())
			}
		}
		var anew tally
		for _, name := range []federation.ClusterName{"a", "b", "c"} {
			if got, want := kept.of(s, name), anew.of(s, name); got != want {
				t.Fatalf("step %d: %s has %+v, want %+v", step, name, got, want)
			}
		}
		clusterset := 0
		for svc := range s.Services() {
			if svc.Key.ClusterSet() {
				if clusterset++; told[keyOf(svc)] != svc {
					t.Fatalf("step %d: %v was not told", step, svc.Key)
				}
			}
		}
		if clusterset != len(told) {
			t.Fatalf("step %d: %d services, %d told", step, clusterset, len(told))
		}
	}
}

func randomService(r *rand.Rand) *federation.Service {
	svc := &federation.Service{Key: federation.ServiceKey{Namespace: "shop", Name: fmt.Sprintf("s%02d", r.IntN(30))}}
	if r.IntN(5) == 0 {
		svc.Key.Cluster = "a" // of that cluster alone
	}
	for _, name := range []federation.ClusterName{"a", "b", "c"}[:r.IntN(4)] {
		svc.Exports = append(svc.Exports, federation.Export{Cluster: name})
		for range r.IntN(3) {
			svc.Endpoints = append(svc.Endpoints, federation.Endpoint{Cluster: name, Health: federation.Health(r.IntN(2))})
		}
		svc.Counts = append(svc.Counts, federation.RemoteCount{Cluster: name, Ready: uint32(r.IntN(4))})
	}
	return svc
}
