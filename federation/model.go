// Package federation is the model of the mesh: services, endpoints, clusters
// and networks as values, with no Kubernetes types and no I/O. federation/ingest
// fills it from objects, and everything after reads it.
package federation

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/trust"
)

// ClusterName names a Kubernetes cluster of the clusterset: a DNS label, unique
// in the set. The empty name is no cluster.
type ClusterName string

// NetworkName names a set of clusters whose pods reach one another directly.
type NetworkName string

// Locality says where an endpoint or a proxy runs, from the node's
// topology.kubernetes.io labels. Either part may be empty.
type Locality struct{ Region, Zone string }

// ServiceKey names a service. Two with the same name in different clusters are
// different services while Cluster is set (cluster.local), and one service
// while it is empty (clusterset.local).
type ServiceKey struct {
	Cluster         ClusterName
	Namespace, Name string
}

// ClusterSet reports whether the key names a service of the whole clusterset.
func (k ServiceKey) ClusterSet() bool { return k.Cluster == "" }

// Hostname returns the service's DNS name,
// NAME.NAMESPACE.svc.cluster.local or NAME.NAMESPACE.svc.clusterset.local.
func (k ServiceKey) Hostname() string {
	zone := "cluster.local"
	if k.ClusterSet() {
		zone = "clusterset.local"
	}
	return k.Name + "." + k.Namespace + ".svc." + zone
}

// Compare orders keys by namespace, name and cluster.
func (k ServiceKey) Compare(o ServiceKey) int {
	return cmp.Or(cmp.Compare(k.Namespace, o.Namespace), cmp.Compare(k.Name, o.Name), cmp.Compare(k.Cluster, o.Cluster))
}

// Protocol is what a port speaks, as its appProtocol or the prefix of its name
// says (the convention of Istio: http, http2, grpc, tcp, tls, https, ...).
type Protocol uint8

const (
	ProtocolAuto  Protocol = iota // nothing was said: the proxy looks at the first bytes
	ProtocolHTTP                  // HTTP/1.1, or HTTP/2 where the client speaks it
	ProtocolHTTP2                 // HTTP/2 with prior knowledge, gRPC too
	ProtocolTCP                   // opaque bytes; the server may speak first
	ProtocolUDP                   // not carried by the mesh
)

// Port is a port of a service. Name may be empty; Number is 1 to 65535 and
// unique among the service's TCP ports.
type Port struct {
	Name     string
	Number   uint16
	Protocol Protocol
}

// MTLSMode says what a workload's inbound side takes.
type MTLSMode uint8

const (
	MTLSPermissive MTLSMode = iota // mTLS and plaintext
	MTLSStrict                     // mTLS only
	MTLSDisable                    // plaintext only; TLS is the application's own
)

// Tunnel says how an endpoint is reached. Nobody is sent an endpoint whose
// tunnel he does not speak.
type Tunnel uint8

const (
	TunnelNone Tunnel = iota // plaintext, no proxy at the far end
	TunnelMTLS               // the mesh's mTLS to the far sidecar
)

// Health is an endpoint's state by its EndpointSlice.
type Health uint8

const (
	Ready       Health = iota
	Terminating        // serving still, takes no new connection while others are ready
	NotReady
)

// Endpoint is one pod (or bare address) behind a service.
type Endpoint struct {
	Cluster  ClusterName
	Network  NetworkName
	Locality Locality
	Addr     netip.Addr // not valid where a checkpoint tells of a pod of another network
	Pod      string     // pod name; empty for bare addresses
	Hostname string     // of a StatefulSet's pod
	Account  trust.ID
	Tunnel   Tunnel
	Health   Health
	Ports    []EndpointPort // sorted by Service
	Others   []OtherPort    // not TCP, so for callers without a sidecar; clusterset services only
}

// EndpointPort maps a port of the service to the endpoint's own.
type EndpointPort struct{ Service, Target uint16 }

// Target returns the endpoint's port number for port number of the service,
// and whether the endpoint has that port.
func (e *Endpoint) Target(number uint16) (uint16, bool) {
	for _, p := range e.Ports {
		if p.Service == number {
			return p.Target, true
		}
	}
	return 0, false
}

// Compare orders endpoints by cluster, address and pod.
func (e *Endpoint) Compare(o *Endpoint) int {
	return cmp.Or(cmp.Compare(e.Cluster, o.Cluster), e.Addr.Compare(o.Addr), cmp.Compare(e.Pod, o.Pod))
}

// VIP is an address at which the service is called in one cluster.
type VIP struct {
	Cluster ClusterName
	Addr    netip.Addr
}

// Export is one cluster's export of a clusterset service.
type Export struct {
	Cluster ClusterName
	Since   time.Time // creationTimestamp of the ServiceExport; the oldest wins
	Ports   []Port    // what that cluster exposes
	// Numbers are the ports of the import, sorted, that Ports lead to: where they
	// differ, callers and server names know these alone.
	Numbers []uint16
	// Declared is what that cluster says beyond that; nil in an old checkpoint.
	Declared *Declared
	// StaleSince is when the cluster was last known to be true; zero while it
	// is reachable.
	StaleSince time.Time
	// Checkpoint says that the data comes from the local API server because
	// the cluster has not been read since this program started.
	Checkpoint bool
	// To names the clusters that may import it, sorted; nil means every one. The
	// exporting cluster itself always may. (api.AnnotationExportTo)
	To []ClusterName
	// Hidden says that To leaves out the cluster whose imports are made from this
	// model: nobody there calls it, its ports and properties are not merged, but
	// gateways of its network pass it on to those who may. Its Endpoints have the
	// port numbers of the merge that would be, were it not hidden.
	Hidden bool
	// NoEntry says that callers behind an entry gateway, who all share its
	// identity, are refused. (api.AnnotationEntry)
	NoEntry bool
}

// RemoteCount stands for ready endpoints whose addresses are not known or not
// to be used here: those of a checkpoint from another network.
type RemoteCount struct {
	Cluster  ClusterName
	Network  NetworkName
	Locality Locality
	Port     uint16 // of the service
	Ready    uint32 // endpoints with a sidecar
}

// Service is a service as callers see it. All lists are sorted and belong to
// the Service; nobody changes them after ingest has made it. Two snapshots
// share a Service by pointer when nothing about it changed, so pointer
// equality is a valid (if not complete) test for sameness.
type Service struct {
	Key       ServiceKey
	Headless  bool
	VIPs      []VIP // sorted; for a cluster.local service all of Key.Cluster
	Ports     []Port
	Endpoints []Endpoint    // by Compare; every cluster's for a clusterset service
	Counts    []RemoteCount // from checkpoints only
	Accounts  []trust.ID    // identities that may answer, sorted, no duplicates
	Exports   []Export      // clusterset services only, sorted by cluster
	// Declared is what the exports say together; nil for cluster.local services.
	Declared *Declared
	// SameZone says that trafficDistribution (PreferClose, PreferSameZone) asks
	// for endpoints of the caller's zone first.
	SameZone bool
	// EntryPorts are where entry gateways serve the ports, and Synthetic the
	// addresses that stand for pods of other networks; both as the imported slices
	// of a local cluster say, sorted: by cluster and port, and by Synthetic.Compare.
	// Clusterset services only.
	EntryPorts []EntryPort
	Synthetic  []Synthetic
	// Failover says, of a cluster.local service, that Endpoints, Counts, Accounts
	// and Exports hold the other clusters' too. (api.AnnotationLocalName)
	Failover bool
}

// EntryPort is the port at the entry gateway of Cluster that leads to a port of
// a service.
type EntryPort struct {
	Cluster ClusterName
	Service uint16 // of the service
	Port    uint16 // at the entry gateway; unique in Cluster
}

// Synthetic is an address that in cluster In stands for one pod of a headless
// service, whose own address belongs to another network and may be somebody
// else's here.
type Synthetic struct {
	In   ClusterName
	Of   ClusterName // where the pod runs
	Pod  string
	Addr netip.Addr // unique in In
}

// Compare orders by In, Of and Pod, of which no two of a service have the same.
func (a Synthetic) Compare(o Synthetic) int {
	return cmp.Or(cmp.Compare(a.In, o.In), cmp.Compare(a.Of, o.Of), cmp.Compare(a.Pod, o.Pod))
}

// SyntheticFor returns the address that stands in cluster in for e, if any. It
// searches, so Synthetic must be sorted by Compare.
func (s *Service) SyntheticFor(in ClusterName, e *Endpoint) (netip.Addr, bool) {
	at, ok := slices.BinarySearchFunc(s.Synthetic, Synthetic{In: in, Of: e.Cluster, Pod: e.Pod}, Synthetic.Compare)
	if !ok {
		return netip.Addr{}, false
	}
	return s.Synthetic[at].Addr, true
}

// HiddenFrom reports whether cluster's export of the service is Hidden.
func (s *Service) HiddenFrom(cluster ClusterName) bool {
	for i := range s.Exports {
		if s.Exports[i].Cluster == cluster {
			return s.Exports[i].Hidden
		}
	}
	return false
}

// OnlyHidden reports whether the service is here for gateways alone: all its
// exports are Hidden. Such a one has no VIPs and, unless clusters that export it
// to here are lost, no Ports and no Declared.
func (s *Service) OnlyHidden() bool {
	for i := range s.Exports {
		if !s.Exports[i].Hidden {
			return false
		}
	}
	return len(s.Exports) > 0
}

// VIPsIn yields the addresses at which the service is called in cluster.
func (s *Service) VIPsIn(cluster ClusterName) []netip.Addr {
	var out []netip.Addr
	for _, v := range s.VIPs {
		if v.Cluster == cluster {
			out = append(out, v.Addr)
		}
	}
	return out
}

// Port returns the service's port by number.
func (s *Service) Port(number uint16) (Port, bool) {
	for _, p := range s.Ports {
		if p.Number == number {
			return p, true
		}
	}
	return Port{}, false
}

// WorkloadKey names a pod.
type WorkloadKey struct {
	Cluster         ClusterName
	Namespace, Name string
}

// Compare orders keys by cluster, namespace and name.
func (k WorkloadKey) Compare(o WorkloadKey) int {
	return cmp.Or(cmp.Compare(k.Cluster, o.Cluster), cmp.Compare(k.Namespace, o.Namespace), cmp.Compare(k.Name, o.Name))
}

// Workload is a pod with a sidecar: what its inbound listener needs.
type Workload struct {
	Key      WorkloadKey
	UID      string // Kubernetes UID of the pod
	Account  trust.ID
	Network  NetworkName
	Locality Locality
	Addrs    []netip.Addr
	MTLS     MTLSMode
	// PortMTLS holds ports whose mode differs from MTLS, sorted by port.
	PortMTLS []PortMode
	// Inbound holds the pod's ports that services lead to, sorted by number.
	Inbound []InboundPort
}

// PortMode is the mTLS mode of one port of a workload.
type PortMode struct {
	Port uint16
	Mode MTLSMode
}

// InboundPort is a port of a pod that a service leads to.
type InboundPort struct {
	Port     uint16
	Protocol Protocol
	Service  ServiceKey // the first by Compare, for telemetry
	// From names the clusters whose workloads may call, sorted, the own among
	// them; nil means any. Plaintext is then taken from the own cluster's
	// addresses alone (Cluster.Inside).
	From []ClusterName
	// NoEntry says that entry gateways, of any cluster, may not call.
	NoEntry bool
}

// Gateway is one address of a network's east-west gateway.
type Gateway struct {
	Addr netip.AddrPort
	// Silent says that the elected prober finds it not answering; unknown
	// counts as answering. SilentSince is zero while it answers.
	Silent      bool
	SilentSince time.Time
}

// Cluster is what the mesh knows of a Kubernetes cluster.
type Cluster struct {
	Name     ClusterName
	Network  NetworkName
	Locality Locality // of its first node by name; for nearness
	Priority int      // order among otherwise equal clusters, lower first
	Local    bool     // where this control plane runs
	// Read says that the cluster has been listed completely since this program
	// started; until then its exports come from the checkpoint.
	Read bool
	// Reachable says that a small read was answered in the last 10 s; while it
	// is false, Since says when it last was.
	Reachable bool
	Since     time.Time
	// Lost says that the API server is unreachable, the gateway silent and the
	// lease over: none of its endpoints are used any more.
	Lost bool
	// Drain says that traffic is kept away from it; nil: it is in full use. KeptAway
	// says that it was asked for where this control plane runs, not by the cluster.
	Drain    *Drain
	KeptAway bool
	Gateways []Gateway // of this cluster's network, as this cluster's Services say; sorted
	// ControlPlanes are the addresses of its ready isthmusd pods, sorted; a served
	// cluster's only, and none of a remote.
	ControlPlanes []netip.Addr
	// Entries are the addresses of its ready entry gateways, sorted.
	Entries []netip.Addr
	// Inside are the ranges and addresses of its own pods and nodes, sorted, none
	// within another. A served cluster's only.
	Inside []netip.Prefix
	// EntryFrom are the ranges from which its entry gateways may be called, where
	// they were given by hand; nil means Inside.
	EntryFrom []netip.Prefix
	// ShutOut are the pods that its entry gateways refuse all the same, by their
	// namespace's label api.LabelEntry; sorted. A served cluster's only.
	ShutOut []netip.Addr
}

// ObjectRef names an object of a user.
type ObjectRef struct {
	Cluster               ClusterName
	Kind, Namespace, Name string
}

// Compare orders references by cluster, kind, namespace and name.
func (r ObjectRef) Compare(o ObjectRef) int {
	return cmp.Or(cmp.Compare(r.Cluster, o.Cluster), cmp.Compare(r.Kind, o.Kind), cmp.Compare(r.Namespace, o.Namespace), cmp.Compare(r.Name, o.Name))
}

// Problem says that a user's object is wrong. It drops that object only, and
// becomes a condition on it.
type Problem struct {
	Object  ObjectRef
	Reason  string // CamelCase, as in a condition
	Message string
}

// Compare orders problems by object, reason and message.
func (p Problem) Compare(o Problem) int {
	return cmp.Or(p.Object.Compare(o.Object), cmp.Compare(p.Reason, o.Reason), cmp.Compare(p.Message, o.Message))
}
