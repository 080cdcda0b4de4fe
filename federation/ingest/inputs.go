package ingest

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/trust"
)

// Inputs is all that Build reads. One goroutine owns it; its methods note in
// Changes what Build must make anew.
type Inputs struct {
	Domain    trust.Domain
	Namespace string // system namespace: holds gateways and mesh-wide policies, is no part of the mesh
	// EntryFrom is Cluster.EntryFrom of the served clusters, in any order. Set it
	// before anything else.
	EntryFrom []netip.Prefix
	// ExportNamespaces are system namespaces of Kubernetes ("kube-system") whose
	// exports are taken after all, of every cluster; Namespace never is. Set it
	// before anything else.
	ExportNamespaces []string

	clusters map[federation.ClusterName]*cluster
	resolved map[string][]netip.Addr
	claims   claims
}

// cluster is a linked cluster with its objects.
type cluster struct {
	ClusterState
	*objects
}

// ClusterState is what is known of a cluster beside its objects.
type ClusterState struct {
	Name   federation.ClusterName
	Local  bool
	Served bool // its proxies get their configuration here
	Read   bool // its objects have been listed completely once
	// Network is used where the cluster's own system namespace names none.
	Network   federation.NetworkName
	Priority  int
	Reachable bool
	Since     time.Time // when it last answered, where not Reachable
	Lost      bool
	// Drain is what was last known of the cluster's own drain, where its system
	// namespace has not been read, and KeepAway what was asked for here, by hand.
	Drain, KeepAway *federation.Drain
	// Gateways replaces what the cluster's Services say, "host:port"; may be nil.
	Gateways []string
	// Silent holds the gateway addresses ("IP:port") that do not answer, and since when.
	Silent map[string]time.Time
}

// NewInputs returns inputs without any cluster.
func NewInputs(domain trust.Domain, namespace string) *Inputs {
	return &Inputs{Domain: domain, Namespace: namespace, clusters: map[federation.ClusterName]*cluster{}, resolved: map[string][]netip.Addr{}, claims: newClaims()}
}

// Changes says what Build must make anew; the rest is taken over from the last
// snapshot. Clusters and policies' problems are always made anew. The zero
// Changes is none.
type Changes struct {
	All       bool
	Clusters  bool              // something about clusters or policies changed
	Services  map[Name]struct{} // of every cluster and of the clusterset
	Workloads map[federation.WorkloadKey]struct{}

	insides map[federation.ClusterName]struct{} // whose Inside or ShutOut changed
}

// Empty reports whether a snapshot built from the changes would be the last one.
func (c *Changes) Empty() bool {
	return !c.All && !c.Clusters && len(c.Services) == 0 && len(c.Workloads) == 0
}

func (c *Changes) inside(name federation.ClusterName) {
	c.Clusters = true
	if c.insides == nil {
		c.insides = map[federation.ClusterName]struct{}{}
	}
	c.insides[name] = struct{}{}
}

func (c *Changes) service(n Name) {
	if c.Services == nil {
		c.Services = map[Name]struct{}{}
	}
	c.Services[n] = struct{}{}
}

func (c *Changes) workload(cluster federation.ClusterName, n Name) {
	if c.Workloads == nil {
		c.Workloads = map[federation.WorkloadKey]struct{}{}
	}
	c.Workloads[federation.WorkloadKey{Cluster: cluster, Namespace: n.Namespace, Name: n.Name}] = struct{}{}
}

// SetCluster adds the cluster, or changes its state and keeps its objects.
func (in *Inputs) SetCluster(state ClusterState, ch *Changes) {
	c := in.clusters[state.Name]
	if c == nil {
		in.clusters[state.Name] = &cluster{state, newObjects()}
		ch.All = true
		return
	}
	old := c.ClusterState
	if reflect.DeepEqual(old, state) {
		return
	}
	c.ClusterState = state
	ch.Clusters = true
	if old.Network != state.Network || old.Read != state.Read || old.Lost != state.Lost || old.Local != state.Local || old.Served != state.Served {
		ch.All = true
	}
	if old.Reachable != state.Reachable || !old.Since.Equal(state.Since) {
		for n := range c.exports {
			ch.service(n)
		}
		in.checkpointed(state.Name, ch)
	}
}

// checkpointed marks the services that other clusters' imported slices say
// name exports.
func (in *Inputs) checkpointed(name federation.ClusterName, ch *Changes) {
	for _, c := range in.clusters {
		for _, s := range c.from[Name{Name: string(name)}] {
			ch.service(Name{s.Namespace, s.Service})
		}
	}
}

// RemoveCluster forgets the cluster and all its objects.
func (in *Inputs) RemoveCluster(name federation.ClusterName, ch *Changes) {
	if c, ok := in.clusters[name]; ok {
		for _, n := range c.nodes {
			in.claims.add(name, n, -1)
		}
		delete(in.clusters, name)
		ch.All = true
	}
}

// ClusterNames returns the known clusters, sorted.
func (in *Inputs) ClusterNames() []federation.ClusterName {
	return slices.Sorted(maps.Keys(in.clusters))
}

// Cluster returns the state of a cluster and whether it is known.
func (in *Inputs) Cluster(name federation.ClusterName) (ClusterState, bool) {
	c := in.clusters[name]
	if c == nil {
		return ClusterState{}, false
	}
	return c.ClusterState, true
}

// SetResolved says to which addresses a gateway's hostname leads.
func (in *Inputs) SetResolved(host string, addrs []netip.Addr, ch *Changes) {
	sorted := slices.Clone(addrs)
	slices.SortFunc(sorted, netip.Addr.Compare)
	if !slices.Equal(in.resolved[host], sorted) {
		in.resolved[host] = sorted
		ch.Clusters = true
	}
}

// Set stores an object of a known cluster; one that says nothing new changes nothing.
func (in *Inputs) Set(name federation.ClusterName, o Object, ch *Changes) {
	if c := in.clusters[name]; c != nil {
		in.put(c, o.Kind(), o.ID(), o, ch)
	}
}

// Remove forgets an object.
func (in *Inputs) Remove(name federation.ClusterName, kind Kind, id Name, ch *Changes) {
	if c := in.clusters[name]; c != nil {
		in.put(c, kind, id, nil, ch)
	}
}
