package ingest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
)

// maxExportTo is how many clusters one export may name.
const maxExportTo = 256

// Reasons of Problems with an export's annotations.
const (
	invalidExportTo  = "InvalidExportTo"
	invalidEntry     = "InvalidEntry"
	invalidLocalName = "InvalidLocalName"
)

// Terms is what the annotations of a ServiceExport ask for. The Bad texts say
// what is wrong with a value, else they are empty.
type Terms struct {
	To           []federation.ClusterName // nil means every cluster
	BadTo        string
	NoEntry      bool
	BadEntry     string
	Failover     bool
	BadLocalName string
}

func slimTerms(annotations map[string]string) Terms {
	var t Terms
	if text, ok := annotations[api.AnnotationExportTo]; ok {
		t.To, t.BadTo = parseExportTo(text)
	}
	if text, ok := annotations[api.AnnotationEntry]; ok {
		t.NoEntry = true // also where it is misspelt: what was meant is to refuse
		if text != api.EntryRefuse {
			t.BadEntry = fmt.Sprintf("%s is %q, which is not %q; entry gateways are refused", api.AnnotationEntry, clip(text), api.EntryRefuse)
		}
	}
	if text, ok := annotations[api.AnnotationLocalName]; ok {
		t.Failover = text == api.LocalNameFailover
		if !t.Failover {
			t.BadLocalName = fmt.Sprintf("%s is %q, which is not %q; callers of the cluster.local name stay in the cluster", api.AnnotationLocalName, clip(text), api.LocalNameFailover)
		}
	}
	return t
}

// parseExportTo reads a list of clusters: sorted, no duplicates, or what is
// wrong with it.
func parseExportTo(text string) ([]federation.ClusterName, string) {
	var out []federation.ClusterName
	for name := range strings.SplitSeq(text, ",") {
		name = strings.TrimSpace(name)
		if !label(name) {
			return nil, fmt.Sprintf("%s names %q, which is no cluster's name; nobody imports the service", api.AnnotationExportTo, clip(name))
		}
		if out = append(out, federation.ClusterName(name)); len(out) > maxExportTo {
			return nil, fmt.Sprintf("%s names more than %d clusters; nobody imports the service", api.AnnotationExportTo, maxExportTo)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), ""
}

// hides reports whether an export of cluster c to the clusters in to leaves out
// the local one.
func (b *builder) hides(c *cluster, to []federation.ClusterName) bool {
	return to != nil && !c.Local && b.home != "" && !slices.Contains(to, b.home)
}

// judge tells the owner of an export what is wrong with its terms.
func (b *builder) judge(c *cluster, e *Export, s *Service) {
	if e.BadEntry != "" {
		b.problem(c.Name, kindExport, e.Name, invalidEntry, e.BadEntry)
	}
	switch {
	case e.BadLocalName != "":
		b.problem(c.Name, kindExport, e.Name, invalidLocalName, e.BadLocalName)
	case e.Failover && s.Headless:
		b.problem(c.Name, kindExport, e.Name, invalidLocalName, "the name of a headless service is its pods' and cannot fail over")
	}
}

// callers returns who may call a port that the exports lead to: From and
// NoEntry of federation.InboundPort. Each restriction holds only where all
// exports ask for it, else some callers of another would be refused.
func (c *cluster) callers(exports []*Export) (from []federation.ClusterName, noEntry bool) {
	noEntry = len(exports) > 0
	open := len(exports) == 0
	for _, e := range exports {
		noEntry = noEntry && e.NoEntry
		if e.To == nil && e.BadTo == "" {
			open = true
		}
		from = append(from, e.To...)
	}
	if open {
		return nil, noEntry
	}
	from = append(from, c.Name)
	slices.Sort(from)
	return slices.Compact(from), noEntry
}

// sameCallers reports whether two forms of an export let the same callers in;
// either may be nil.
func sameCallers(a, b *Export) bool {
	var none Export
	if a == nil {
		a = &none
	}
	if b == nil {
		b = &none
	}
	return a.NoEntry == b.NoEntry && a.BadTo == b.BadTo && slices.Equal(a.To, b.To) && (a.To == nil) == (b.To == nil)
}
