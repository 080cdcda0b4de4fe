// Package mcs merges the exports that several clusters make of one service, by
// the rules of the Multi-Cluster Services API (KEP-1645). It is pure.
package mcs

import (
	"cmp"
	"fmt"
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
	LeftOut             []Left                 // in the order of age
}

// Left is a port for which the union had no place: it had
// federation.MaxCheckpointPorts already.
type Left struct {
	Cluster   federation.ClusterName
	Transport string
	Number    uint16
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
	ports, left := union(sorted)
	return Import{
		Headless:    first.Headless,
		Ports:       ports,
		LeftOut:     left,
		Spec:        first.Spec,
		Labels:      maps.Clone(first.Labels),
		Annotations: maps.Clone(first.Annotations),
		Oldest:      first.Cluster,
		Conflicts:   conflicts(sorted),
	}
}

// union takes every port whose name and whose transport and number are not
// taken by an older export's, up to federation.MaxCheckpointPorts. A port without
// a name is called port-NUMBER where it is one of several, so that is taken too.
func union(sorted []Export) (out []Port, left []Left) {
	names, numbers := map[string]bool{}, map[Port]bool{}
	for _, e := range sorted {
		for _, p := range e.Ports {
			number, called := Port{Transport: p.Transport, Number: p.Number}, cmp.Or(p.Name, fmt.Sprintf("port-%d", p.Number))
			if names[p.Name] || names[called] || numbers[number] {
				continue
			}
			if len(out) == federation.MaxCheckpointPorts {
				left = append(left, Left{e.Cluster, p.Transport, p.Number})
				continue
			}
			names[p.Name], names[called], numbers[number] = true, true, true
			out = append(out, p)
		}
	}
	slices.SortFunc(out, comparePorts)
	return out, left
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
