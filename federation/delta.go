package federation

import (
	"maps"
	"slices"
)

// Delta is what differs from a Snapshot. A nil Service or Workload is gone.
type Delta struct {
	Services  map[ServiceKey]*Service
	Workloads map[WorkloadKey]*Workload
	Clusters  map[ClusterName]*Cluster // all of them
	Problems  []Problem                // all of them, in any order
}

// With returns s as d changes it; s stays as it is. What d does not name costs no
// more than a copy of its table, and nothing where no Service or no Workload
// differs.
func (s *Snapshot) With(d Delta) *Snapshot {
	out := &Snapshot{services: s.services, byKey: s.byKey, workloads: s.workloads, clusters: d.Clusters, problems: s.problems}
	out.setServices(d.Services)
	if differs(s.workloads, d.Workloads) {
		out.workloads = replaced(s.workloads, d.Workloads)
	}
	slices.SortFunc(d.Problems, Problem.Compare)
	if !slices.Equal(s.problems, d.Problems) {
		out.problems = d.Problems
	}
	return out
}

func (s *Snapshot) setServices(changed map[ServiceKey]*Service) {
	if !differs(s.byKey, changed) {
		return
	}
	before := s.byKey
	s.byKey = replaced(before, changed)
	sorted := make([]*Service, 0, len(s.byKey))
	for _, svc := range s.services {
		now, ok := changed[svc.Key]
		if !ok {
			now = svc
		}
		if now != nil {
			sorted = append(sorted, now)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(changed), ServiceKey.Compare) {
		if before[key] == nil && changed[key] != nil {
			at, _ := slices.BinarySearchFunc(sorted, key, func(svc *Service, k ServiceKey) int { return svc.Key.Compare(k) })
			sorted = slices.Insert(sorted, at, changed[key])
		}
	}
	s.services = sorted
}

func differs[K comparable, V any](m, changed map[K]*V) bool {
	for k, v := range changed {
		if m[k] != v {
			return true
		}
	}
	return false
}

func replaced[K comparable, V any](m, changed map[K]*V) map[K]*V {
	out := maps.Clone(m)
	if out == nil {
		out = map[K]*V{}
	}
	for k, v := range changed {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}
