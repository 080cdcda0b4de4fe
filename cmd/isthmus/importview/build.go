package importview

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/meshstatus"
	"github.com/isthmus-mesh/isthmus/federation"
)

// View is what one cluster holds.
type View struct {
	Cluster string
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
		if c.Status != metav1.ConditionTrue {
			m.Message = c.Reason + ": " + c.Message
		}
	}
	sources := map[string]Source{}
	for _, c := range x.Status.Clusters {
		sources[c.Cluster] = Source{Cluster: c.Cluster}
		b.exporter(x.Namespace, x.Name, c.Cluster, func(*Exporter) {})
	}
	for _, s := range v.Slices {
		if s.Namespace == x.Namespace && s.Labels[mcsv1beta1.LabelServiceName] == x.Name {
			b.slice(v.Cluster, i, s, sources)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		m.Sources = append(m.Sources, sources[name])
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

// slice reads what an importer keeps of one exporter.
func (b *builder) slice(importer string, i *Import, s discoveryv1.EndpointSlice, sources map[string]Source) {
	from := s.Labels[mcsv1beta1.LabelSourceCluster]
	raw := s.Annotations[api.AnnotationCheckpoint]
	if raw == "" {
		return // further addresses of the same exporter
	}
	c, err := federation.ParseCheckpoint(raw)
	if err != nil {
		b.notes = append(b.notes, fmt.Sprintf("%s: EndpointSlice %s/%s: %v", importer, s.Namespace, s.Name, err))
		return
	}
	source := Source{Cluster: from, Network: string(c.Network), Gateways: c.Gateways}
	byPort := map[uint16]uint32{}
	for _, n := range c.Ready {
		byPort[n.Port] += n.Count
		source.Endpoints = max(source.Endpoints, byPort[n.Port])
	}
	sources[from] = source
	b.exporter(s.Namespace, i.Name, from, func(e *Exporter) {
		e.Network = string(c.Network)
		if e.Since.IsZero() {
			e.Since = c.ExportedSince.UTC()
		}
	})
	for n := range i.Ports {
		if p := &i.Ports[n]; exposes(c, p) && !slices.Contains(p.Clusters, from) {
			p.Clusters = append(p.Clusters, from)
			slices.Sort(p.Clusters)
		}
	}
}

func exposes(c federation.Checkpoint, p *Port) bool {
	return p.Protocol == "TCP" && slices.ContainsFunc(c.Ports, func(have federation.Port) bool { return int32(have.Number) == p.Number })
}
