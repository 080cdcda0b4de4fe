package ingest

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/mcs"
	"github.com/isthmus-mesh/isthmus/trust"
)

// exporting is one cluster's part in a clusterset service.
type exporting struct {
	c          *cluster
	export     mcs.Export
	checkpoint *federation.Checkpoint // where the cluster has not been read
	slices     []*Slice               // of the checkpoint
	hidden     bool                   // from the local cluster
	terms      Terms
}

// together is a clusterset service with what other services take from it.
type together struct {
	*federation.Service
	known []trust.ID // identities of those in Counts
}

// clusterSet merges the exports of n; its Service is nil where there is none.
func (b *builder) clusterSet(n Name) together {
	hidden, parts := split(b.exporters(n))
	if len(parts)+len(hidden) == 0 {
		return together{}
	}
	merged := mcs.Merge(exportsOf(parts))
	out := together{Service: b.imported(n, merged, len(parts) > 0)}
	for _, part := range parts {
		if part.c.Lost {
			continue // all are: the name stays, nobody answers
		}
		b.addExport(&out, part, n, merged)
		b.conflicts(part, n, merged)
		b.leftOut(part, n, merged)
	}
	out.Accounts = accounts(out.Endpoints, out.known)
	if len(hidden) > 0 {
		b.addHidden(&out, hidden, n, merged)
	}
	return out
}

// split takes those apart that are hidden, and leaves out those of lost
// clusters, unless it is all that are not hidden.
func split(all []exporting) (hidden, parts []exporting) {
	isLost := func(e exporting) bool { return e.c.Lost }
	for _, e := range all {
		if e.hidden && !e.c.Lost {
			hidden = append(hidden, e)
		} else if !e.hidden {
			parts = append(parts, e)
		}
	}
	if !slices.ContainsFunc(parts, func(e exporting) bool { return !e.c.Lost }) {
		return hidden, parts
	}
	return hidden, slices.DeleteFunc(parts, isLost)
}

// imported makes what callers here see, which is nothing where all exports are
// hidden.
func (b *builder) imported(n Name, merged mcs.Import, visible bool) *federation.Service {
	out := &federation.Service{Key: federation.ServiceKey{Namespace: n.Namespace, Name: n.Name}}
	if !visible {
		return out
	}
	out.Headless, out.VIPs, out.SameZone = merged.Headless, b.vips(n), sameZone(&merged.Spec.TrafficDistribution)
	out.Declared = declared(merged.Ports, merged.Spec, merged.Labels, merged.Annotations)
	for _, p := range merged.Ports {
		if p.Transport == mcs.TCP {
			out.Ports = append(out.Ports, federation.Port{Name: p.Name, Number: p.Number, Protocol: ParseProtocol(p)})
		}
	}
	out.Ports = sortPorts(out.Ports)
	b.allotted(out, n)
	return out
}

func (b *builder) addExport(out *together, part exporting, n Name, merged mcs.Import) {
	entry := exportEntry(part)
	for _, numbers := range importPorts(part.export.Ports, merged) {
		entry.Numbers = append(entry.Numbers, numbers...)
	}
	slices.Sort(entry.Numbers)
	entry.Numbers = slices.Compact(entry.Numbers)
	out.Exports = append(out.Exports, entry)
	if part.checkpoint == nil {
		out.Endpoints = append(out.Endpoints, b.exported(part, n, merged)...)
		return
	}
	out.known = append(out.known, part.checkpoint.Accounts...)
	b.remembered(out.Service, part, merged)
}

// addHidden adds exports that only gateways pass on. Who may import them sees
// ports that this cluster cannot know for sure, so the number of each port is
// that of the import here, else that of the hidden ones' own merge.
func (b *builder) addHidden(out *together, hidden []exporting, n Name, merged mcs.Import) {
	own := mcs.Merge(exportsOf(hidden))
	for _, p := range own.Ports {
		if _, taken := mcs.Resolve(merged.Ports, p); !taken {
			merged.Ports = append(slices.Clip(merged.Ports), p)
		}
	}
	if len(out.Exports) == 0 && out.Declared == nil {
		out.Headless = own.Headless
	}
	for _, part := range hidden {
		b.addExport(out, part, n, merged)
	}
	slices.SortFunc(out.Exports, func(a, b federation.Export) int { return cmp.Compare(a.Cluster, b.Cluster) })
	slices.SortFunc(out.Endpoints, func(a, b federation.Endpoint) int { return a.Compare(&b) })
}

func exportsOf(parts []exporting) []mcs.Export {
	out := make([]mcs.Export, len(parts))
	for i, p := range parts {
		out[i] = p.export
	}
	return out
}

func exportEntry(p exporting) federation.Export {
	out := federation.Export{Cluster: p.c.Name, Since: p.export.Since, StaleSince: since(p.c), Checkpoint: p.checkpoint != nil, To: p.terms.To, Hidden: p.hidden, NoEntry: p.terms.NoEntry}
	if p.checkpoint == nil || p.checkpoint.Declared != nil {
		out.Declared = declared(p.export.Ports, p.export.Spec, p.export.Labels, p.export.Annotations)
	}
	for _, port := range p.export.Ports {
		if port.Transport == mcs.TCP {
			out.Ports = append(out.Ports, federation.Port{Name: port.Name, Number: port.Number, Protocol: ParseProtocol(port)})
		}
	}
	out.Ports = sortPorts(out.Ports)
	return out
}

// since is when an unreachable cluster was last known to be true.
func since(c *cluster) time.Time {
	if c.Local || c.Reachable {
		return time.Time{}
	}
	return c.Since
}

// exporters lists the clusters that export n, by name.
func (b *builder) exporters(n Name) []exporting {
	var out []exporting
	written := b.written(n)
	for _, name := range b.names {
		c := b.in.clusters[name]
		var e exporting
		var ok bool
		if c.Read || c.Local {
			e, ok = b.exporter(c, n)
		} else {
			e, ok = b.checkpointExporter(c, n, written[name])
		}
		if ok {
			out = append(out, e)
		}
	}
	return out
}

func (b *builder) exporter(c *cluster, n Name) (exporting, bool) {
	export, s := c.exports[n], c.services[n]
	if export == nil {
		return exporting{}, false
	}
	refuse := func(reason, message string) (exporting, bool) {
		b.problem(c.Name, kindExport, n, reason, message)
		return exporting{}, false
	}
	switch {
	case b.in.reserved(n.Namespace):
		return refuse("SystemNamespace", "services of namespace "+n.Namespace+" are not exported")
	case !validName(n):
		return refuse("InvalidName", "the name is no DNS label")
	case s == nil || s.Import != "":
		return refuse("NoService", "there is no Service of that name")
	case s.External:
		return refuse("InvalidServiceType", "a Service of type ExternalName cannot be exported")
	}
	if len(s.Ports) > federation.MaxCheckpointPorts {
		return refuse(tooManyPorts, fmt.Sprintf("the Service has %d ports, more than the %d that can be exported", len(s.Ports), federation.MaxCheckpointPorts))
	}
	if export.BadTo != "" {
		return refuse(invalidExportTo, export.BadTo)
	}
	b.judge(c, export, s)
	e := exporting{c: c, terms: export.Terms, hidden: b.hides(c, export.To), export: mcs.Export{Cluster: c.Name, Since: export.Since, Headless: s.Headless, Spec: s.Spec}}
	e.export.Labels, e.export.Annotations = b.metadata(c, export)
	for _, p := range s.Ports {
		e.export.Ports = append(e.export.Ports, p.Port)
	}
	b.sound(c, &e.export, n)
	return e, true
}

// reserved reports whether a namespace means something else in every cluster, and
// was not allowed all the same.
func (in *Inputs) reserved(namespace string) bool {
	switch namespace {
	case in.Namespace:
		return true
	case "kube-system", "kube-public", "kube-node-lease":
		return !slices.Contains(in.ExportNamespaces, namespace)
	}
	return false
}

// written returns the slices of the import n in the local cluster by their
// source, each list by name.
func (b *builder) written(n Name) map[federation.ClusterName][]*Slice {
	if b.home == "" {
		return nil
	}
	slices := b.in.clusters[b.home].imported[n]
	if len(slices) == 0 {
		return nil
	}
	out := make(map[federation.ClusterName][]*Slice, len(slices))
	for _, id := range sortedKeys(slices) {
		out[slices[id].Source] = append(out[slices[id].Source], slices[id])
	}
	return out
}

// checkpointExporter finds what the local cluster's imported slices remember.
func (b *builder) checkpointExporter(c *cluster, n Name, written []*Slice) (exporting, bool) {
	if b.in.reserved(n.Namespace) || !validName(n) {
		return exporting{}, false
	}
	var out exporting
	for _, s := range written {
		if s.BadCheckpoint != "" {
			b.problem(b.home, kindImport, n, "InvalidCheckpoint", fmt.Sprintf("slice %s: %s", s.Name.Name, s.BadCheckpoint))
		}
		cp := s.Checkpoint
		if cp == nil {
			continue
		}
		if out.checkpoint == nil {
			out = exporting{c: c, checkpoint: cp, export: mcs.Export{Cluster: c.Name, Since: cp.ExportedSince, Headless: cp.Headless}}
			remember(&out.export, cp)
			out.terms.NoEntry = cp.NoEntry
		}
		out.slices = append(out.slices, s)
	}
	return out, out.checkpoint != nil
}

// appProtocol returns a name that ParseProtocol takes for protocol.
func appProtocol(p federation.Protocol) string {
	if p == federation.ProtocolAuto {
		return ""
	}
	return p.String()
}

// exported returns the endpoints of a cluster that has been read, with port
// numbers of the import.
func (b *builder) exported(p exporting, n Name, merged mcs.Import) []federation.Endpoint {
	b.notCarried(p, n)
	found := b.endpoints(p.c, n, importPorts(p.export.Ports, merged), importOthers(p.export.Ports, merged), func(reason, message string) {
		b.problem(p.c.Name, kindExport, n, reason, message)
	})
	if anyReady(found, federation.TunnelNone) && !anyReady(found, federation.TunnelMTLS) {
		b.problem(p.c.Name, kindExport, n, "NoSidecar", "no ready pod has a sidecar, so clusters on other networks cannot reach the service")
	}
	return found
}

func anyReady(endpoints []federation.Endpoint, tunnel federation.Tunnel) bool {
	return slices.ContainsFunc(endpoints, func(e federation.Endpoint) bool { return e.Health == federation.Ready && e.Tunnel == tunnel })
}

// importPorts maps a cluster's own TCP ports to numbers of the import.
func importPorts(own []mcs.Port, merged mcs.Import) portMap {
	out := portMap{}
	for _, p := range own {
		if o, ok := mcs.Resolve(merged.Ports, p); ok && p.Transport == mcs.TCP && o.Transport == mcs.TCP {
			out[p.Name] = append(out[p.Name], o.Number)
		}
	}
	return out
}

// remembered adds what a checkpoint says: addresses on a network that is
// shared with a served cluster, otherwise how many are ready behind gateways.
func (b *builder) remembered(out *federation.Service, p exporting, merged mcs.Import) {
	network := b.networks[p.c.Name]
	if b.shared(p.c) {
		ports, others := rememberedPorts(merged)
		for _, s := range p.slices {
			out.Endpoints = append(out.Endpoints, b.rememberedEndpoints(p, s, ports, others, network)...)
		}
		slices.SortFunc(out.Endpoints, func(a, b federation.Endpoint) int { return a.Compare(&b) })
		return
	}
	if pods := b.rememberedPods(p, merged, network); len(pods) > 0 {
		out.Endpoints = append(out.Endpoints, pods...)
		return // each is counted already
	}
	for _, r := range p.checkpoint.Ready {
		own := slices.IndexFunc(p.export.Ports, func(o mcs.Port) bool { return o.Number == r.Port && o.Transport == mcs.TCP })
		if own < 0 || r.Count == 0 {
			continue
		}
		if o, ok := mcs.Resolve(merged.Ports, p.export.Ports[own]); ok {
			out.Counts = append(out.Counts, federation.RemoteCount{Cluster: p.c.Name, Network: network, Locality: r.Locality, Port: o.Number, Ready: r.Count})
		}
	}
}

// shared reports whether a served cluster is on the network of c.
func (b *builder) shared(c *cluster) bool {
	network := b.networks[c.Name]
	for _, o := range b.in.clusters {
		if o.Served && b.networks[o.Name] == network {
			return true
		}
	}
	return false
}

func (b *builder) rememberedEndpoints(p exporting, s *Slice, ports portMap, others otherMap, network federation.NetworkName) []federation.Endpoint {
	var out []federation.Endpoint
	for _, e := range s.Endpoints {
		if e.Bad != "" || special(e.Addr) != "" || b.claimed(p.c, e.Addr) != "" {
			continue
		}
		made := federation.Endpoint{Cluster: p.c.Name, Network: network, Addr: e.Addr, Hostname: e.Hostname, Health: e.Health, Locality: federation.Locality{Zone: e.Zone}, Others: others.of(s.Others)}
		if !slices.Contains(p.checkpoint.Plaintext, e.Addr) {
			made.Tunnel = federation.TunnelMTLS
			if len(p.checkpoint.Accounts) == 1 {
				made.Account = p.checkpoint.Accounts[0]
			}
		}
		for _, port := range s.Ports {
			for _, number := range ports[port.Name] {
				made.Ports = append(made.Ports, federation.EndpointPort{Service: number, Target: port.Number})
			}
		}
		out = append(out, made)
	}
	return out
}

// conflicts tells every exporter what the clusters disagree on.
func (b *builder) conflicts(p exporting, n Name, merged mcs.Import) {
	if p.checkpoint != nil {
		return
	}
	for _, c := range merged.Conflicts {
		b.problem(p.c.Name, kindExport, n, c.Reason, c.Message)
	}
}
