package importview

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
)

// How sidecars of an importer reach an exporter's pods.
const (
	HowOwn     = "own"     // they are its own
	HowDirect  = "direct"  // by their addresses, on one network
	HowGateway = "gateway" // through the east-west gateways of their network
)

// Address is one that an import leads to.
type Address struct {
	Address  string `json:"address"`
	Pod      string `json:"pod,omitempty"`
	Hostname string `json:"hostname,omitempty"`
	Ready    bool   `json:"ready"`
}

// Entry says how pods without a sidecar reach an exporter on another network.
type Entry struct {
	Refused  bool        `json:"refused,omitempty"` // the export wants none of them
	Gateways []string    `json:"gateways"`          // addresses of the entry gateways
	Ports    []EntryPort `json:"ports"`
}

// EntryPort is where entry gateways serve a port. It is not ready while a pod of the own network
// is, since those come first, or while nobody with a sidecar answers.
type EntryPort struct {
	Port  uint16 `json:"port"`
	At    uint16 `json:"at"`
	Ready bool   `json:"ready"`
}

// slice reads what an importer keeps of one exporter, in one slice of perhaps several.
func (b *builder) slice(v View, i *Import, s discoveryv1.EndpointSlice, sources map[string]*Source) {
	from := s.Labels[mcsv1beta1.LabelSourceCluster]
	source := sources[from]
	if source == nil {
		source = &Source{Cluster: from}
		sources[from] = source
	}
	raw := s.Annotations[api.AnnotationCheckpoint]
	if raw == "" {
		source.addresses(s)
		return // somebody else's, or too much for an annotation
	}
	c, err := federation.ParseCheckpoint(raw)
	if err != nil {
		b.notes = append(b.notes, fmt.Sprintf("%s: EndpointSlice %s/%s: %v", v.Cluster, s.Namespace, s.Name, err))
		return
	}
	source.remember(v, c)
	source.addresses(s)
	b.exporter(s.Namespace, i.Name, from, func(e *Exporter) {
		e.Network, e.declared = string(c.Network), c.Declared
		e.headless = c.Headless
		if e.Since.IsZero() {
			e.Since = c.ExportedSince.UTC()
		}
		if e.Entry == "" && c.NoEntry {
			e.Entry = api.EntryRefuse
		}
	})
	for n := range i.Ports {
		if p := &i.Ports[n]; exposes(c, p) && !slices.Contains(p.Clusters, from) {
			p.Clusters = append(p.Clusters, from)
			slices.Sort(p.Clusters)
		}
	}
}

// remember takes what the checkpoint says.
func (s *Source) remember(v View, c federation.Checkpoint) {
	s.Network, s.Gateways, s.Endpoints = string(c.Network), c.Gateways, 0
	switch {
	case s.Cluster == v.Cluster:
		s.How = HowOwn
	case v.Network != "" && s.Network != v.Network:
		s.How = HowGateway
		if !c.Headless && s.Entry == nil {
			s.Entry = &Entry{Refused: c.NoEntry, Gateways: []string{}, Ports: []EntryPort{}}
		}
	default:
		s.How = HowDirect
	}
	byPort := map[uint16]uint32{}
	for _, n := range c.Ready {
		byPort[n.Port] += n.Count
		s.Endpoints = max(s.Endpoints, byPort[n.Port])
	}
}

// addresses takes what the slice itself holds: pods, addresses that stand for pods of another
// network, or entry gateways.
func (s *Source) addresses(slice discoveryv1.EndpointSlice) {
	if _, headless := slice.Labels[corev1.IsHeadlessService]; s.How == HowGateway && !headless {
		s.entry(slice)
		return
	}
	for _, e := range slice.Endpoints {
		a := Address{Ready: ready(e)}
		if e.TargetRef != nil {
			a.Pod = e.TargetRef.Name
		}
		if e.Hostname != nil {
			a.Hostname = *e.Hostname
		}
		for _, text := range e.Addresses {
			a.Address = text
			if s.How == HowGateway {
				s.Synthetic = append(s.Synthetic, a)
			} else {
				s.Pods = append(s.Pods, a)
			}
		}
	}
	slices.SortFunc(s.Pods, compareAddresses)
	slices.SortFunc(s.Synthetic, compareAddresses)
}

func compareAddresses(a, b Address) int {
	return cmp.Or(cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.Address, b.Address))
}

// entry takes the entry gateways and their ports; those of one readiness are in a slice of their own.
func (s *Source) entry(slice discoveryv1.EndpointSlice) {
	if s.Entry == nil {
		s.Entry = &Entry{Gateways: []string{}, Ports: []EntryPort{}}
	}
	given, err := federation.ParseEntryPorts(slice.Annotations[api.AnnotationEntryPorts])
	for _, p := range given {
		if err == nil {
			s.Entry.port(EntryPort{Port: p.Service, At: p.Port})
		}
	}
	for _, e := range slice.Endpoints {
		s.Entry.Gateways = append(s.Entry.Gateways, e.Addresses...)
	}
	slices.Sort(s.Entry.Gateways)
	s.Entry.Gateways = slices.Compact(s.Entry.Gateways)
	if !slices.ContainsFunc(slice.Endpoints, ready) {
		return
	}
	for _, p := range slice.Ports {
		for n := range s.Entry.Ports {
			if p.Port != nil && int32(s.Entry.Ports[n].At) == *p.Port {
				s.Entry.Ports[n].Ready = true
			}
		}
	}
}

// port adds one unless it is there.
func (e *Entry) port(p EntryPort) {
	if !slices.ContainsFunc(e.Ports, func(have EntryPort) bool { return have.Port == p.Port && have.At == p.At }) {
		e.Ports = append(e.Ports, p)
	}
	slices.SortFunc(e.Ports, func(a, b EntryPort) int { return cmp.Compare(a.Port, b.Port) })
}

// ready reads an endpoint's condition; where nobody said, it is. (Kubernetes, EndpointConditions)
func ready(e discoveryv1.Endpoint) bool { return e.Conditions.Ready == nil || *e.Conditions.Ready }

// exposes reports whether an exporter has the import's port p: by its name, or by its number
// where it has none.
func exposes(c federation.Checkpoint, p *Port) bool {
	same := func(transport, name string, number uint16) bool {
		return transport == p.Protocol && (name != "" && name == p.Name || int32(number) == p.Number)
	}
	if c.Declared != nil && len(c.Declared.Ports) > 0 {
		return slices.ContainsFunc(c.Declared.Ports, func(d federation.DeclaredPort) bool { return same(d.Transport, d.Name, d.Number) })
	}
	return slices.ContainsFunc(c.Ports, func(have federation.Port) bool { return same("TCP", have.Name, have.Number) })
}
