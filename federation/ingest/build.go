package ingest

import (
	"maps"
	"reflect"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation"
)

// Kinds of the objects that Problems name.
const (
	kindService = "Service"
	kindExport  = "ServiceExport"
	kindImport  = "ServiceImport"
	kindPod     = "Pod"
	kindPolicy  = "PeerAuthentication"

	kindNamespace = "Namespace"
)

// builder makes one snapshot.
type builder struct {
	in       *Inputs
	names    []federation.ClusterName // sorted
	home     federation.ClusterName   // the local cluster, or ""
	networks map[federation.ClusterName]federation.NetworkName
	policies *policies
	problems []federation.Problem
}

// Build returns the mesh as in says it is. What changed does not name is taken
// over from prev, which is the result of the last Build of the same inputs or
// nil. A Service, Workload or Cluster that comes out as it was is the same
// pointer. Build neither keeps nor changes in.
func Build(prev *federation.Snapshot, in *Inputs, changed Changes) *federation.Snapshot {
	if prev == nil {
		changed.All = true
	}
	b := &builder{in: in, names: in.ClusterNames(), networks: in.networks()}
	for _, name := range b.names {
		if in.clusters[name].Local {
			b.home = name
			break
		}
	}
	b.policies = newPolicies(in)
	clusters := b.clusters(prev, changed)
	services := map[federation.ServiceKey]*federation.Service{}
	workloads := map[federation.WorkloadKey]*federation.Workload{}
	b.problems = append(b.problems, b.policies.problems...)
	if changed.All {
		b.allServices(prev, services)
		b.allWorkloads(prev, workloads)
		return federation.NewSnapshot(federation.Parts{Services: services, Workloads: workloads, Clusters: clusters, Problems: b.problems})
	}
	for n := range changed.Services { // gone, unless they are made again
		services[federation.ServiceKey{Namespace: n.Namespace, Name: n.Name}] = nil
		for _, name := range b.names {
			if b.in.clusters[name].Served {
				services[federation.ServiceKey{Cluster: name, Namespace: n.Namespace, Name: n.Name}] = nil
			}
		}
	}
	for k := range changed.Workloads {
		workloads[k] = nil
	}
	for _, p := range prev.Problems() {
		if b.kept(p.Object, changed) {
			b.problems = append(b.problems, p)
		}
	}
	b.someServices(prev, changed, services)
	b.someWorkloads(prev, changed, workloads)
	return prev.With(federation.Delta{Services: services, Workloads: workloads, Clusters: clusters, Problems: b.problems})
}

// kept reports whether a problem of that object in the last snapshot still stands.
func (b *builder) kept(o federation.ObjectRef, changed Changes) bool {
	switch o.Kind {
	case kindService, kindExport, kindImport:
		_, ok := changed.Services[Name{o.Namespace, o.Name}]
		return !ok && !(o.Kind == kindService && o.Namespace == b.in.Namespace) // gateways are always looked at
	case kindPod:
		_, ok := changed.Workloads[federation.WorkloadKey{Cluster: o.Cluster, Namespace: o.Namespace, Name: o.Name}]
		return !ok
	}
	return false
}

func (b *builder) allServices(prev *federation.Snapshot, out map[federation.ServiceKey]*federation.Service) {
	names := map[Name]struct{}{}
	for _, c := range b.in.clusters {
		for n := range c.services {
			names[n] = struct{}{}
		}
		for n := range c.exports {
			names[n] = struct{}{}
		}
		for n := range c.imported {
			names[n] = struct{}{}
		}
	}
	b.someServices(prev, Changes{Services: names}, out)
}

func (b *builder) someServices(prev *federation.Snapshot, changed Changes, out map[federation.ServiceKey]*federation.Service) {
	for n := range changed.Services {
		set := b.clusterSet(n)
		if s := set.Service; s != nil {
			out[s.Key] = same(prev.Service(s.Key), s)
		}
		for _, name := range b.names {
			c := b.in.clusters[name]
			if s := b.local(c, n); s != nil {
				b.failover(s, c, n, set)
				out[s.Key] = same(prev.Service(s.Key), s)
			}
		}
	}
}

func (b *builder) allWorkloads(prev *federation.Snapshot, out map[federation.WorkloadKey]*federation.Workload) {
	for _, c := range b.in.clusters {
		for n := range c.pods {
			b.addWorkload(prev, c, n, out)
		}
	}
}

func (b *builder) someWorkloads(prev *federation.Snapshot, changed Changes, out map[federation.WorkloadKey]*federation.Workload) {
	for k := range changed.Workloads {
		if c := b.in.clusters[k.Cluster]; c != nil {
			b.addWorkload(prev, c, Name{k.Namespace, k.Name}, out)
		}
	}
}

func (b *builder) addWorkload(prev *federation.Snapshot, c *cluster, n Name, out map[federation.WorkloadKey]*federation.Workload) {
	if w := b.workload(c, n); w != nil {
		out[w.Key] = same(prev.Workload(w.Key), w)
	}
}

func (b *builder) problem(c federation.ClusterName, kind string, n Name, reason, message string) {
	b.problems = append(b.problems, federation.Problem{
		Object: federation.ObjectRef{Cluster: c, Kind: kind, Namespace: n.Namespace, Name: n.Name},
		Reason: reason, Message: message,
	})
}

// same returns old where it says what now says, so that nothing after has to look.
func same[T any](old, now *T) *T {
	if old != nil && reflect.DeepEqual(old, now) {
		return old
	}
	return now
}

func sortedKeys[V any](m map[Name]V) []Name {
	return slices.SortedFunc(maps.Keys(m), Name.Compare)
}
