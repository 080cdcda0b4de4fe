// Package importview tells of imported services what several clusters say of them:
// who exports, whose word counts, where they disagree, and what each importer has.
package importview

import (
	"cmp"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/federation"
)

// Report is what all clusters that were asked know of imports.
type Report struct {
	Time    time.Time `json:"time"`
	Imports []Import  `json:"imports"`
	Notes   []string  `json:"notes,omitempty"` // what could not be read, and why
	// Healthy says that every cluster answered, and that every import is well.
	Healthy bool `json:"healthy"`
}

// Import is a service of the clusterset.
type Import struct {
	Namespace string     `json:"namespace"`
	Name      string     `json:"name"`
	Hostname  string     `json:"hostname"`
	Type      string     `json:"type,omitempty"`
	Ports     []Port     `json:"ports"`
	Exporters []Exporter `json:"exporters"` // the oldest first
	Importers []Importer `json:"importers"`
	// Winner is the exporter whose word counts for what they cannot have each their own
	// way: type, session affinity, traffic policies, labels and annotations.
	Winner    string     `json:"winner,omitempty"`
	Fields    []Field    `json:"fields,omitempty"` // empty where it is not known what the winner says
	Conflicts []Conflict `json:"conflicts,omitempty"`
}

// Port is one of an import, with the clusters to which it leads.
type Port struct {
	Name     string   `json:"name,omitempty"`
	Protocol string   `json:"protocol"`
	Number   int32    `json:"number"`
	Clusters []string `json:"clusters"`
	Winner   string   `json:"winner,omitempty"` // of these the one whose word counts for the port
}

// Exporter is a cluster that exports the service.
type Exporter struct {
	Cluster string    `json:"cluster"`
	Since   time.Time `json:"since,omitzero"`
	Network string    `json:"network,omitempty"`
	// The conditions of its ServiceExport; empty where it could not be read, or nobody has
	// said anything yet.
	Valid    string `json:"valid,omitempty"`
	Ready    string `json:"ready,omitempty"`
	Conflict string `json:"conflict,omitempty"`
	Message  string `json:"message,omitempty"` // of what is not well
	// What the export's annotations say; empty for what is usual.
	To        []string `json:"to,omitempty"` // clusters that may import it
	LocalName string   `json:"localName,omitempty"`
	Entry     string   `json:"entry,omitempty"`

	declared *federation.Declared // as importers remember it; nil where nobody does
	headless bool
}

// Importer is a cluster that has the import.
type Importer struct {
	Cluster string    `json:"cluster"`
	Since   time.Time `json:"since"`
	IPs     []string  `json:"ips,omitempty"`
	Ready   string    `json:"ready,omitempty"`
	Message string    `json:"message,omitempty"`
	Winner  string    `json:"winner,omitempty"` // of the exporters that it sees
	Sources []Source  `json:"sources"`          // sorted by cluster
}

// Source is what an importer has of one exporter.
type Source struct {
	Cluster   string   `json:"cluster"`
	Endpoints uint32   `json:"endpoints"` // ready ones
	Network   string   `json:"network,omitempty"`
	Gateways  []string `json:"gateways,omitempty"` // by which they are reached from other networks
	How       string   `json:"how,omitempty"`      // HowOwn, HowDirect or HowGateway; empty where nothing is remembered
	// Pods are those with addresses of their own; Synthetic are addresses that stand for pods of
	// another network's headless service, which sidecars know.
	Pods      []Address `json:"pods,omitempty"`
	Synthetic []Address `json:"synthetic,omitempty"`
	Entry     *Entry    `json:"entry,omitempty"` // from another network only
}

// Conflict is a field on which exporters disagree, in the control plane's words.
type Conflict struct {
	Reason  string   `json:"reason"`
	Message string   `json:"message"`
	Seen    []string `json:"seenBy"` // clusters whose exports say so
}

// well reports whether nothing of the import is amiss.
func (i Import) well() bool {
	good := func(s string) bool { return s == "" || s == string(metav1.ConditionTrue) }
	return len(i.Conflicts) == 0 && len(i.Exporters) > 0 &&
		!slices.ContainsFunc(i.Exporters, func(e Exporter) bool { return !good(e.Valid) || !good(e.Ready) }) &&
		!slices.ContainsFunc(i.Importers, func(m Importer) bool { return !good(m.Ready) })
}

// Endpoints is how many ready endpoints of cluster the importers know, at most.
func (i Import) Endpoints(cluster string) uint32 {
	most := uint32(0)
	for _, m := range i.Importers {
		for _, s := range m.Sources {
			if s.Cluster == cluster {
				most = max(most, s.Endpoints)
			}
		}
	}
	return most
}

// sorted brings everything into the order that the fields name; exporters of one second by name.
func (i *Import) sorted() {
	slices.SortFunc(i.Exporters, func(a, b Exporter) int {
		if a.Since.IsZero() != b.Since.IsZero() { // of unknown age: last
			return cmp.Compare(boolRank(a.Since.IsZero()), boolRank(b.Since.IsZero()))
		}
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Cluster, b.Cluster))
	})
	slices.SortFunc(i.Importers, func(a, b Importer) int { return cmp.Compare(a.Cluster, b.Cluster) })
	slices.SortFunc(i.Ports, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(i.Conflicts, func(a, b Conflict) int {
		return cmp.Or(cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Message, b.Message))
	})
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}
