package importview

import (
	"cmp"
	"maps"
	"slices"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/meshstatus"
)

// View is what one cluster holds.
type View struct {
	Cluster string
	Network string // empty: not known
	Exports []mcsv1beta1.ServiceExport
	Imports []mcsv1beta1.ServiceImport
	Slices  []discoveryv1.EndpointSlice // of imports
}

type key struct{ namespace, name string }

// Build joins what clusters hold. It keeps the service namespace/name alone where a name is given.
func Build(now time.Time, views []View, namespace, name string) Report {
	b := builder{byKey: map[key]*Import{}, since: map[key]map[string]Exporter{}}
	for _, v := range views {
		b.view(v)
	}
	report := Report{Time: now, Imports: []Import{}, Notes: b.notes, Healthy: len(b.notes) == 0}
	for _, k := range slices.SortedFunc(maps.Keys(b.byKey), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	}) {
		if name != "" && (k != key{namespace, name}) {
			continue
		}
		i := b.byKey[k]
		i.Exporters = slices.Collect(maps.Values(b.since[k]))
		i.sorted()
		i.decide()
		report.Imports = append(report.Imports, *i)
		report.Healthy = report.Healthy && i.well()
	}
	return report
}

type builder struct {
	byKey map[key]*Import
	since map[key]map[string]Exporter // by cluster
	notes []string
}

func (b *builder) of(namespace, name string) *Import {
	k := key{namespace, name}
	if b.byKey[k] == nil {
		b.byKey[k] = &Import{
			Namespace: namespace, Name: name, Hostname: name + "." + namespace + ".svc." + api.ZoneClusterSet,
			Ports: []Port{}, Exporters: []Exporter{}, Importers: []Importer{},
		}
		b.since[k] = map[string]Exporter{}
	}
	return b.byKey[k]
}

// exporter changes what is known of an exporter.
func (b *builder) exporter(namespace, name, cluster string, change func(*Exporter)) {
	b.of(namespace, name)
	known := b.since[key{namespace, name}]
	e := known[cluster]
	e.Cluster = cluster
	change(&e)
	known[cluster] = e
}

func (b *builder) view(v View) {
	for _, x := range v.Exports {
		b.export(v.Cluster, x)
	}
	for _, i := range v.Imports {
		b.imported(v, i)
	}
}

func (b *builder) export(cluster string, x mcsv1beta1.ServiceExport) {
	i := b.of(x.Namespace, x.Name)
	b.exporter(x.Namespace, x.Name, cluster, func(e *Exporter) {
		said := meshstatus.ExportOf(x)
		e.Since, e.Valid, e.Ready, e.Conflict, e.Message = said.Since, said.Valid, said.Ready, said.Conflict, said.Message
		e.To, e.LocalName, e.Entry = said.To, said.LocalName, said.Entry
	})
	if c := meta.FindStatusCondition(x.Status.Conditions, string(mcsv1beta1.ServiceExportConditionConflict)); c != nil && c.Status == metav1.ConditionTrue {
		i.conflict(cluster, c.Reason, c.Message)
	}
}

// conflict notes one, once for all who say the same.
func (i *Import) conflict(cluster, reason, message string) {
	for n := range i.Conflicts {
		if c := &i.Conflicts[n]; c.Reason == reason && c.Message == message {
			c.Seen = append(c.Seen, cluster)
			return
		}
	}
	i.Conflicts = append(i.Conflicts, Conflict{Reason: reason, Message: message, Seen: []string{cluster}})
}

func (b *builder) imported(v View, x mcsv1beta1.ServiceImport) {
	i := b.of(x.Namespace, x.Name)
	i.Type = string(x.Spec.Type)
	for _, p := range x.Spec.Ports {
		i.port(Port{Name: p.Name, Protocol: cmp.Or(string(p.Protocol), "TCP"), Number: p.Port})
	}
	m := Importer{Cluster: v.Cluster, Since: x.CreationTimestamp.UTC(), IPs: x.Spec.IPs, Sources: []Source{}}
	if c := meta.FindStatusCondition(x.Status.Conditions, string(mcsv1beta1.ServiceImportConditionReady)); c != nil {
		m.Ready = string(c.Status)
		m.Message = c.Message // of what could be better, where it is ready
		if c.Status != metav1.ConditionTrue {
			m.Message = c.Reason + ": " + c.Message
		}
	}
	sources := map[string]*Source{}
	for _, c := range x.Status.Clusters {
		sources[c.Cluster] = &Source{Cluster: c.Cluster}
		b.exporter(x.Namespace, x.Name, c.Cluster, func(*Exporter) {})
	}
	for _, s := range v.Slices {
		if s.Namespace == x.Namespace && s.Labels[mcsv1beta1.LabelServiceName] == x.Name {
			b.slice(v, i, s, sources)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		m.Sources = append(m.Sources, *sources[name])
	}
	i.Importers = append(i.Importers, m)
}

// port adds a port unless it is there.
func (i *Import) port(p Port) {
	for _, have := range i.Ports {
		if have.Number == p.Number && have.Protocol == p.Protocol && have.Name == p.Name {
			return
		}
	}
	p.Clusters = []string{}
	i.Ports = append(i.Ports, p)
}
