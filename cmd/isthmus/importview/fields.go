package importview

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Field is something that exporters cannot have each their own way, with whose word counts.
type Field struct {
	Name    string    `json:"name"`
	Value   string    `json:"value"`
	Winner  string    `json:"winner"`
	Against []Opinion `json:"against,omitempty"` // exporters that say otherwise
}

// Opinion is what one exporter says of a field.
type Opinion struct {
	Cluster string `json:"cluster"`
	Value   string `json:"value"`
}

// fields are those that KEP-1645 gives to the oldest export.
var fields = []struct {
	name  string
	value func(Exporter) string
}{
	{"type", func(e Exporter) string {
		if e.headless {
			return "Headless"
		}
		return "ClusterSetIP"
	}},
	{"sessionAffinity", func(e Exporter) string {
		if e.declared.SessionAffinity == "ClientIP" {
			return fmt.Sprintf("ClientIP %ds", e.declared.AffinitySeconds)
		}
		return cmp.Or(e.declared.SessionAffinity, "None")
	}},
	{"internalTrafficPolicy", func(e Exporter) string { return cmp.Or(e.declared.InternalTrafficPolicy, "Cluster") }},
	{"trafficDistribution", func(e Exporter) string { return cmp.Or(e.declared.TrafficDistribution, "none") }},
	{"ipFamilies", func(e Exporter) string { return cmp.Or(strings.Join(e.declared.Families, ","), "none") }},
	{"labels", func(e Exporter) string { return mapText(e.declared.Labels) }},
	{"annotations", func(e Exporter) string { return mapText(e.declared.Annotations) }},
}

func mapText(m map[string]string) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, key+"="+m[key])
	}
	return cmp.Or(strings.Join(out, ","), "none")
}

// voters are the exporters whose word may count: those that are not refused. Exports to chosen
// clusters only are left out where others are for all; in the chosen ones they may win.
func (i *Import) voters() []Exporter {
	var open, all []Exporter
	for _, e := range i.Exporters {
		if e.Valid == string(metav1.ConditionFalse) || e.Since.IsZero() {
			continue
		}
		all = append(all, e)
		if len(e.To) == 0 {
			open = append(open, e)
		}
	}
	if len(open) > 0 {
		return open
	}
	return all
}

// decide finds the winner, the oldest exporter, of the import, of each port and of each field.
// Exporters are sorted.
func (i *Import) decide() {
	voters := i.voters()
	if len(voters) > 0 {
		i.Winner = voters[0].Cluster
	}
	for n := range i.Ports {
		p := &i.Ports[n]
		for _, e := range voters {
			if p.Winner == "" && slices.Contains(p.Clusters, e.Cluster) {
				p.Winner = e.Cluster
			}
		}
	}
	for n := range i.Importers {
		i.Importers[n].Winner = i.winnerAmong(i.Importers[n].Sources)
	}
	voters = slices.DeleteFunc(voters, func(e Exporter) bool { return e.declared == nil })
	if len(voters) == 0 || voters[0].Cluster != i.Winner {
		return // what the winner says is not known
	}
	for _, f := range fields {
		field := Field{Name: f.name, Value: f.value(voters[0]), Winner: i.Winner}
		for _, e := range voters[1:] {
			if value := f.value(e); value != field.Value {
				field.Against = append(field.Against, Opinion{e.Cluster, value})
			}
		}
		i.Fields = append(i.Fields, field)
	}
}

// winnerAmong is the oldest exporter that an importer sees.
func (i *Import) winnerAmong(seen []Source) string {
	for _, e := range i.Exporters {
		if !e.Since.IsZero() && slices.ContainsFunc(seen, func(s Source) bool { return s.Cluster == e.Cluster }) {
			return e.Cluster
		}
	}
	return ""
}
