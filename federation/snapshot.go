package federation

import (
	"iter"
	"maps"
	"slices"
)

// Snapshot is the mesh at one moment. NewSnapshot fills it completely and
// nothing changes it after, so any number of goroutines may read it without a
// lock. The nil Snapshot is empty.
type Snapshot struct {
	services  []*Service // sorted by key; each key once
	byKey     map[ServiceKey]*Service
	workloads map[WorkloadKey]*Workload
	clusters  map[ClusterName]*Cluster
	problems  []Problem
}

// Parts is what a Snapshot is made of. NewSnapshot takes the maps over.
type Parts struct {
	Services  map[ServiceKey]*Service
	Workloads map[WorkloadKey]*Workload
	Clusters  map[ClusterName]*Cluster
	Problems  []Problem // sorted by NewSnapshot
}

// NewSnapshot returns the snapshot of parts.
func NewSnapshot(parts Parts) *Snapshot {
	s := &Snapshot{
		services:  slices.Collect(maps.Values(parts.Services)),
		byKey:     parts.Services,
		workloads: parts.Workloads,
		clusters:  parts.Clusters,
		problems:  parts.Problems,
	}
	slices.SortFunc(s.services, func(a, b *Service) int { return a.Key.Compare(b.Key) })
	slices.SortFunc(s.problems, Problem.Compare)
	return s
}

// Services yields every service in key order.
func (s *Snapshot) Services() iter.Seq[*Service] {
	if s == nil {
		return func(func(*Service) bool) {}
	}
	return slices.Values(s.services)
}

// VisibleTo yields, in key order, the services that proxies of cluster call: its
// own, and the clusterset services that have an address in it or are headless.
func (s *Snapshot) VisibleTo(cluster ClusterName) iter.Seq[*Service] {
	return func(yield func(*Service) bool) {
		for svc := range s.Services() {
			if svc.VisibleTo(cluster) && !yield(svc) {
				return
			}
		}
	}
}

// VisibleTo reports whether proxies of cluster call the service. Nobody here
// calls one whose exports are all Hidden.
func (svc *Service) VisibleTo(cluster ClusterName) bool {
	if !svc.Key.ClusterSet() {
		return svc.Key.Cluster == cluster
	}
	if svc.OnlyHidden() && len(svc.Ports) == 0 {
		return false // with ports, those who export it to here are lost
	}
	return svc.Headless || len(svc.VIPsIn(cluster)) > 0
}

// Service returns the service of key, or nil.
func (s *Snapshot) Service(key ServiceKey) *Service {
	if s == nil {
		return nil
	}
	return s.byKey[key]
}

// Workload returns the pod of key, or nil where it is unknown or has no sidecar.
func (s *Snapshot) Workload(key WorkloadKey) *Workload {
	if s == nil {
		return nil
	}
	return s.workloads[key]
}

// Workloads yields all workloads in no order.
func (s *Snapshot) Workloads() iter.Seq[*Workload] {
	if s == nil {
		return func(func(*Workload) bool) {}
	}
	return maps.Values(s.workloads)
}

// Cluster returns the cluster of that name, or nil.
func (s *Snapshot) Cluster(name ClusterName) *Cluster {
	if s == nil {
		return nil
	}
	return s.clusters[name]
}

// Clusters returns every cluster, sorted by name; the caller owns the slice.
func (s *Snapshot) Clusters() []*Cluster {
	if s == nil {
		return nil
	}
	out := slices.Collect(maps.Values(s.clusters))
	slices.SortFunc(out, func(a, b *Cluster) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

// Problems returns what was wrong with users' objects, sorted. Do not change it.
func (s *Snapshot) Problems() []Problem {
	if s == nil {
		return nil
	}
	return s.problems
}
