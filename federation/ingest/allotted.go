package ingest

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/mcs"
)

// owners tells which imported slices of one cluster have been given a number or
// an address, of which each is for one import.
type owners[K comparable] map[K]map[owner]int

// owner is a slice of import of.
type owner struct {
	since int64 // creation, seconds of Unix time
	slice Name
	of    Name
}

func (o owner) compare(p owner) int {
	return cmp.Or(cmp.Compare(o.since, p.since), o.slice.Compare(p.slice))
}

// add counts slice s of import n in or, where by is -1, out, and marks the other
// owners: which of them has it may have changed.
func (o owners[K]) add(k K, s *Slice, n Name, by int, ch *Changes) {
	if o[k] == nil {
		o[k] = map[owner]int{}
	}
	at := owner{s.Since.Unix(), s.Name, n}
	if o[k][at] += by; o[k][at] == 0 {
		delete(o[k], at)
	}
	for other := range o[k] {
		if other.of != n {
			ch.service(other.of)
		}
	}
	if len(o[k]) == 0 {
		delete(o, k)
	}
}

// elsewhere returns another import that has k: that of the oldest slice which says
// so, as a new leader has it, and of equally old ones the first by name.
func (o owners[K]) elsewhere(k K, n Name) (Name, bool) {
	var first *owner
	for other := range o[k] {
		if first == nil || other.compare(*first) < 0 {
			first = &other
		}
	}
	if first == nil || first.of == n {
		return n, false
	}
	return first.of, true
}

// own counts what an imported slice gives away.
func (c *cluster) own(s *Slice, by int, ch *Changes) {
	of := Name{s.Namespace, s.Service}
	for _, p := range s.EntryPorts {
		c.entryPorts.add(p.Port, s, of, by, ch)
	}
	for i := range s.Endpoints {
		if e := &s.Endpoints[i]; e.Pod != "" && e.Addr.IsValid() {
			c.synthetic.add(e.Addr, s, of, by, ch)
		}
	}
}

// allotted reads EntryPorts and Synthetic of the import n from the slices of the
// local cluster.
func (b *builder) allotted(out *federation.Service, n Name) {
	given := newGiven()
	for _, name := range b.names {
		c := b.in.clusters[name]
		if !c.Local {
			continue
		}
		for _, id := range sortedKeys(c.imported[n]) {
			s := c.imported[n][id]
			var err error
			if out.Headless {
				err = b.addSynthetic(out, given, c, n, s)
			} else {
				err = addEntryPorts(out, c, n, s)
			}
			if err != nil {
				b.problem(c.Name, kindImport, n, "InvalidSlice", fmt.Sprintf("slice %s: %s", id.Name, err))
			}
		}
	}
	slices.SortFunc(out.EntryPorts, func(a, b federation.EntryPort) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Service, b.Service))
	})
	slices.SortFunc(out.Synthetic, federation.Synthetic.Compare)
}

// addEntryPorts takes all entry ports of a slice or none. Slices of an import
// say the same, so what one has said already is no news.
func addEntryPorts(out *federation.Service, c *cluster, n Name, s *Slice) error {
	if s.BadEntryPorts != "" {
		return fmt.Errorf("%s", s.BadEntryPorts)
	}
	var found []federation.EntryPort
	for _, p := range s.EntryPorts {
		p.Cluster = c.Name
		if other, taken := c.entryPorts.elsewhere(p.Port, n); taken {
			return fmt.Errorf("entry port %d is that of %s", p.Port, other)
		}
		for _, o := range out.EntryPorts {
			if o.Cluster == c.Name && (o.Service == p.Service) != (o.Port == p.Port) {
				return fmt.Errorf("entry port %d for port %d: another slice says %d for %d", p.Port, p.Service, o.Port, o.Service)
			}
		}
		if _, ok := out.Port(p.Service); ok && !slices.Contains(out.EntryPorts, p) {
			found = append(found, p)
		}
	}
	out.EntryPorts = append(out.EntryPorts, found...)
	return nil
}

// given tells which synthetic addresses an import has given to which pods.
type given struct {
	addrs map[federation.VIP]struct{}
	pods  map[federation.Synthetic]struct{} // without Addr
}

func newGiven() given {
	return given{map[federation.VIP]struct{}{}, map[federation.Synthetic]struct{}{}}
}

// add notes a, unless its address or its pod has been given already.
func (g given) add(a federation.Synthetic) bool {
	addr, pod := keysOf(a)
	_, taken := g.addrs[addr]
	_, has := g.pods[pod]
	if taken || has {
		return false
	}
	g.addrs[addr], g.pods[pod] = struct{}{}, struct{}{}
	return true
}

func (g given) remove(all []federation.Synthetic) {
	for _, a := range all {
		addr, pod := keysOf(a)
		delete(g.addrs, addr)
		delete(g.pods, pod)
	}
}

func keysOf(a federation.Synthetic) (addr federation.VIP, pod federation.Synthetic) {
	return federation.VIP{Cluster: a.In, Addr: a.Addr}, federation.Synthetic{In: a.In, Of: a.Of, Pod: a.Pod}
}

// addSynthetic takes all synthetic addresses of a slice or none. In slices of
// clusters on the own network the pods have their own addresses.
func (b *builder) addSynthetic(out *federation.Service, given given, c *cluster, n Name, s *Slice) error {
	network, known := b.networks[s.Source]
	if !known || network == b.networks[c.Name] {
		return nil
	}
	var found []federation.Synthetic
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.Pod == "" {
			continue
		}
		if why := c.unfit(n, e); why != "" {
			given.remove(found)
			return fmt.Errorf("address %s of pod %s is %s", cmp.Or(e.Bad, e.Addr.String()), e.Pod, why)
		}
		a := federation.Synthetic{In: c.Name, Of: s.Source, Pod: e.Pod, Addr: e.Addr}
		if !given.add(a) {
			given.remove(found)
			return fmt.Errorf("address %s of pod %s is given twice, or the pod has another", a.Addr, a.Pod)
		}
		found = append(found, a)
	}
	out.Synthetic = append(out.Synthetic, found...)
	return nil
}

// unfit says why an address cannot stand for a pod of another network.
func (c *cluster) unfit(n Name, e *SliceEndpoint) string {
	if e.Bad != "" {
		return "no IP address"
	}
	if why := special(e.Addr); why != "" {
		return why
	}
	if c.ranges.has(e.Addr) {
		return "one of the cluster's own pods or nodes"
	}
	if other, taken := c.synthetic.elsewhere(e.Addr, n); taken {
		return "that of a pod of " + other.String()
	}
	return ""
}

// rememberedPods returns the pods of another network that a checkpoint knows by
// name, as its slices have them. Their own addresses are not known.
func (b *builder) rememberedPods(p exporting, merged mcs.Import, network federation.NetworkName) []federation.Endpoint {
	var out []federation.Endpoint
	ports, _ := rememberedPorts(merged)
	seen := map[string]bool{}
	for _, s := range p.slices {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			at, ok := slices.BinarySearchFunc(s.Checkpoint.Pods, e.Pod, func(p federation.CheckpointPod, name string) int { return cmp.Compare(p.Name, name) })
			if !ok || seen[e.Pod] {
				continue
			}
			seen[e.Pod] = true
			made := federation.Endpoint{
				Cluster: p.c.Name, Network: network, Pod: e.Pod, Hostname: e.Hostname, Health: e.Health, Locality: federation.Locality{Zone: e.Zone},
				Account: s.Checkpoint.Pods[at].Account, Tunnel: federation.TunnelMTLS, Ports: ports.of(s.Ports),
			}
			out = append(out, made)
		}
	}
	slices.SortFunc(out, func(a, b federation.Endpoint) int { return a.Compare(&b) })
	return out
}

// of returns what the ports of a slice serve.
func (m portMap) of(own []SlicePort) []federation.EndpointPort {
	var out []federation.EndpointPort
	for _, p := range own {
		for _, number := range m[p.Name] {
			out = append(out, federation.EndpointPort{Service: number, Target: p.Number})
		}
	}
	slices.SortFunc(out, func(a, b federation.EndpointPort) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Target, b.Target))
	})
	return slices.CompactFunc(out, func(a, b federation.EndpointPort) bool { return a.Service == b.Service })
}

// ranges are prefixes, counted, since nodes may share one. They are searched by
// prefix length, of which there are few.
type ranges struct {
	bits map[int]int
	at   map[netip.Prefix]int
}

func newRanges() ranges { return ranges{map[int]int{}, map[netip.Prefix]int{}} }

// add counts what a node has in or, where by is -1, out; n may be nil.
func (r ranges) add(n *Node, by int) {
	if n == nil {
		return
	}
	for _, p := range n.prefixes() {
		if r.bits[p.Bits()] += by; r.bits[p.Bits()] == 0 {
			delete(r.bits, p.Bits())
		}
		if r.at[p] += by; r.at[p] == 0 {
			delete(r.at, p)
		}
	}
}

// has reports whether a is in one of the ranges.
func (r ranges) has(a netip.Addr) bool {
	for bits := range r.bits {
		if p, err := a.Prefix(bits); err == nil && r.at[p] > 0 {
			return true
		}
	}
	return false
}

// prefixes are the ranges of the node's pods, and its addresses.
func (n *Node) prefixes() []netip.Prefix {
	out := slices.Clone(n.CIDRs)
	for _, a := range n.All {
		if special(a) == "" {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return out
}
