package controllers

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
)

// wantNumbers says what import key needs numbers for, or false where that cannot
// be said: then what it has stays.
func wantNumbers(s *federation.Snapshot, local federation.ClusterName, key objectKey, have importState) (wanted, bool) {
	if own := s.Cluster(local); own == nil || !own.Read {
		return wanted{}, false
	}
	if !have.NamespaceActive {
		return wanted{}, true // its slices are gone or go
	}
	svc := importable(s, key)
	if svc == nil {
		return wanted{}, planRemoval(s, have).Delete || len(have.Slices) == 0
	}
	out := wanted{Ports: map[uint16]federation.ClusterName{}, Pods: map[podOf]bool{}}
	b, keep := sliceBuilder{s: s, local: local, svc: svc}, unasked(s)
	for _, export := range oldestFirst(svc.Exports) {
		keep[export.Cluster] = keep[export.Cluster] || export.Checkpoint
		if export.Hidden || !b.far(export) {
			continue
		}
		for port := range b.exposed(export) {
			out.owe(port, export.Cluster)
		}
		if svc.Headless {
			for _, e := range farPods(svc, export.Cluster) {
				out.Pods[podOf{export.Cluster, e.Pod}] = true
			}
		}
	}
	for i := range have.Slices {
		if keep[sourceOf(&have.Slices[i])] {
			keepNumbers(&out, &have.Slices[i])
		}
	}
	return out, true
}

func oldestFirst(exports []federation.Export) []*federation.Export {
	var out []*federation.Export
	for i := range exports {
		out = append(out, &exports[i])
	}
	slices.SortStableFunc(out, func(a, b *federation.Export) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Cluster, b.Cluster))
	})
	return out
}

// owe adds a port, which counts for the first who exports it.
func (w *wanted) owe(port uint16, cluster federation.ClusterName) {
	if _, known := w.Ports[port]; !known {
		w.Ports[port] = cluster
	}
}

// keepNumbers adds what a slice has that stays as it is.
func keepNumbers(out *wanted, s *discoveryv1.EndpointSlice) {
	for port := range parseEntryPorts(s.Annotations[api.AnnotationEntryPorts]) {
		out.owe(port, sourceOf(s))
	}
	for pod := range syntheticOf(s) {
		out.Pods[pod] = true
	}
}

// exposed returns the import's TCP ports that an export on another network
// leads to for callers behind an entry gateway.
func (b *sliceBuilder) exposed(export *federation.Export) map[uint16]bool {
	out := map[uint16]bool{}
	if b.svc.Headless || export.NoEntry || export.Hidden || !b.far(export) {
		return out
	}
	for _, number := range export.Numbers {
		out[number] = true
	}
	return out
}

// entryPorts returns the entry port of each of the import's that export has.
func (b *sliceBuilder) entryPorts(export *federation.Export) map[uint16]uint16 {
	out := map[uint16]uint16{}
	for port := range b.exposed(export) {
		if entry, ok := b.nums.Entry[port]; ok {
			out[port] = entry
		}
	}
	return out
}

// waitsForEntry reports whether only an entry gateway is missing.
func (b *sliceBuilder) waitsForEntry() bool {
	return len(b.s.Cluster(b.local).Entries) == 0 && slices.ContainsFunc(b.svc.Exports, func(e federation.Export) bool { return len(b.exposed(&e)) > 0 })
}

// entryContents holds the entry gateway's addresses. Ports that are ready and
// ports that are not are apart, since it is endpoints that are ready or not.
func (b *sliceBuilder) entryContents(export *federation.Export) []content {
	ports := b.entryPorts(export)
	var sets [2][]discoveryv1.EndpointPort // ready, not ready
	for _, number := range sortedPorts(ports) {
		i := 1
		if b.entryReady(export.Cluster, number, ports[number]) {
			i = 0
		}
		sets[i] = append(sets[i], b.entryPort(number, ports[number]))
	}
	byFamily := families(b.s.Cluster(b.local).Entries)
	var out []content
	for _, family := range slices.SortedFunc(maps.Keys(byFamily), func(a, b discoveryv1.AddressType) int { return cmp.Compare(a, b) }) {
		for i, set := range sets {
			if len(set) == 0 {
				continue
			}
			c := content{family: family, ports: set}
			for _, addr := range byFamily[family][:min(len(byFamily[family]), maxSlice)] {
				c.endpoints = append(c.endpoints, discoveryv1.Endpoint{
					Addresses:  []string{addr.String()},
					Conditions: discoveryv1.EndpointConditions{Ready: new(i == 0), Serving: new(i == 0), Terminating: new(false)},
				})
			}
			out = append(out, c)
		}
	}
	return out
}

func (b *sliceBuilder) entryPort(number, entry uint16) discoveryv1.EndpointPort {
	out := discoveryv1.EndpointPort{Protocol: new(corev1.ProtocolTCP), Port: new(int32(entry))}
	d := declared(b.svc)
	for _, p := range d.Ports {
		if p.Number == number && p.Transport == string(corev1.ProtocolTCP) {
			out.Name = new(portName(d, p))
			if p.AppProtocol != "" {
				out.AppProtocol = new(p.AppProtocol)
			}
		}
	}
	return out
}

// entryReady reports whether callers may be sent to the entry gateway for a port:
// it is served there, and nobody stands before cluster (pods of the own network do,
// which come first).
func (b *sliceBuilder) entryReady(cluster federation.ClusterName, port, entry uint16) bool {
	return b.served(cluster, port, entry) && b.first(port) == b.standOf(cluster)
}

// served reports whether the entry gateway leads to cluster for a port: there is
// one, this control plane's own snapshot has the port, so it is being told of it,
// and somebody answers there. Whether each gateway has it yet is not asked: one
// that is told later, by another replica or a slow stream, closes a caller's
// connection until it is.
func (b *sliceBuilder) served(cluster federation.ClusterName, port, entry uint16) bool {
	return len(b.s.Cluster(b.local).Entries) > 0 && b.answers(cluster, port) &&
		slices.Contains(b.svc.EntryPorts, federation.EntryPort{Cluster: b.local, Service: port, Port: entry})
}

// answers reports whether cluster has a ready endpoint with a sidecar.
func (b *sliceBuilder) answers(cluster federation.ClusterName, port uint16) bool {
	for i := range b.svc.Endpoints {
		e := &b.svc.Endpoints[i]
		if _, ok := e.Target(port); ok && e.Cluster == cluster && e.Health == federation.Ready && e.Tunnel == federation.TunnelMTLS {
			return true
		}
	}
	return slices.ContainsFunc(b.svc.Counts, func(c federation.RemoteCount) bool { return c.Cluster == cluster && c.Port == port && c.Ready > 0 })
}

func sortedPorts(ports map[uint16]uint16) []uint16 { return slices.Sorted(maps.Keys(ports)) }
