// Package mcs merges the exports that several clusters make of one service, by
// the rules of the Multi-Cluster Services API (KEP-1645). It is pure.
package mcs

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
)

// TCP is the transport protocol that the mesh carries; the others are "UDP" and "SCTP".
const TCP = "TCP"

// Port is a port as a Service declares it.
type Port struct {
	Name        string
	Transport   string // "TCP", "UDP" or "SCTP"
	AppProtocol string // "" if not given
	Number      uint16
}

func (p Port) String() string {
	s := strconv.Itoa(int(p.Number)) + "/" + p.Transport
	if p.Name != "" {
		s = p.Name + " " + s
	}
	if p.AppProtocol != "" {
		s += " (" + p.AppProtocol + ")"
	}
	return s
}

// Spec is what a Service says beside its ports. Empty fields mean the default.
type Spec struct {
	SessionAffinity       string // "", "None" or "ClientIP"
	AffinitySeconds       int32  // of ClientIP
	InternalTrafficPolicy string
	TrafficDistribution   string
	Families              []string // "IPv4", "IPv6", in order of preference
}

// Export is one cluster's export of the service.
type Export struct {
	Cluster             federation.ClusterName
	Since               time.Time // creation of the ServiceExport
	Headless            bool
	Ports               []Port
	Spec                Spec
	Labels, Annotations map[string]string
}

// Import is what the exports give together.
type Import struct {
	Headless            bool
	Ports               []Port // the union; sorted by number, transport and name
	Spec                Spec
	Labels, Annotations map[string]string
	Oldest              federation.ClusterName // whose word counted
	Conflicts           []Conflict             // in the order of mcs-api's reasons
}

// Reasons of a Conflict, as mcs-api spells them.
const (
	PortConflict                  = "PortConflict"
	TypeConflict                  = "TypeConflict"
	SessionAffinityConflict       = "SessionAffinityConflict"
	SessionAffinityConfigConflict = "SessionAffinityConfigConflict"
	InternalTrafficPolicyConflict = "InternalTrafficPolicyConflict"
	TrafficDistributionConflict   = "TrafficDistributionConflict"
	IPFamilyConflict              = "IPFamilyConflict"
	LabelsConflict                = "LabelsConflict"
	AnnotationsConflict           = "AnnotationsConflict"
)

// Conflict says that exports disagree. It never changes traffic.
type Conflict struct {
	Reason  string
	Message string // which field, whose value won and how many clusters disagree
}

// Merge joins exports of different clusters; their order does not matter. The
// oldest wins, and of equally old ones the cluster whose name sorts first.
func Merge(exports []Export) Import {
	if len(exports) == 0 {
		return Import{}
	}
	sorted := slices.Clone(exports)
	slices.SortFunc(sorted, func(a, b Export) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Cluster, b.Cluster))
	})
	first := sorted[0]
	return Import{
		Headless:    first.Headless,
		Ports:       union(sorted),
		Spec:        first.Spec,
		Labels:      maps.Clone(first.Labels),
		Annotations: maps.Clone(first.Annotations),
		Oldest:      first.Cluster,
		Conflicts:   conflicts(sorted),
	}
}

// union takes every port whose name and whose transport and number are not
// taken by an older export's.
func union(sorted []Export) []Port {
	var out []Port
	for _, e := range sorted {
		for _, p := range e.Ports {
			if !slices.ContainsFunc(out, func(o Port) bool { return o.Name == p.Name || sameNumber(o, p) }) {
				out = append(out, p)
			}
		}
	}
	slices.SortFunc(out, comparePorts)
	return out
}

func comparePorts(a, b Port) int {
	return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Transport, b.Transport), cmp.Compare(a.Name, b.Name))
}

// Resolve returns the port of the import that a cluster's own port p serves: the
// one of its transport and number, whatever either is called. A port that lost
// its name to an older export's other number serves none: traffic goes only to
// clusters that expose the port. (KEP-1645, Service port)
func Resolve(ports []Port, p Port) (Port, bool) {
	i := slices.IndexFunc(ports, func(o Port) bool { return sameNumber(o, p) })
	if i < 0 {
		return Port{}, false
	}
	return ports[i], true
}

func sameNumber(a, b Port) bool { return a.Transport == b.Transport && a.Number == b.Number }
