package ingest

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/mcs"
	"github.com/isthmus-mesh/isthmus/trust"
)

// workload makes the pod n of a served cluster, or nil where it has no sidecar.
func (b *builder) workload(c *cluster, n Name) *federation.Workload {
	p := c.pods[n]
	if p == nil || !c.Served || !p.Injected || p.Done {
		return nil
	}
	id, err := trust.NewID(b.in.Domain, n.Namespace, p.Account)
	if err != nil {
		b.problem(c.Name, kindPod, n, "InvalidAccount", err.Error())
		return nil
	}
	out := &federation.Workload{
		Key: federation.WorkloadKey{Cluster: c.Name, Namespace: n.Namespace, Name: n.Name},
		UID: p.UID, Account: id, Network: b.networks[c.Name], Locality: c.localityOf(p.Node, ""),
		Addrs: slices.Clone(p.Addrs), Inbound: b.inbound(c, n),
	}
	slices.SortFunc(out.Addrs, netip.Addr.Compare)
	out.MTLS, out.PortMTLS = b.policies.modes(c, p)
	return out
}

// inbound lists the pod's ports that services lead to. Where services disagree
// on what a port speaks, the first that says anything counts.
func (b *builder) inbound(c *cluster, pod Name) []federation.InboundPort {
	found := map[uint16]federation.InboundPort{}
	exports := map[uint16][]*Export{}
	for _, of := range c.servicesOf(pod) {
		s := c.services[of]
		if s == nil || s.External || s.Import != "" {
			continue
		}
		key := federation.ServiceKey{Cluster: c.Name, Namespace: of.Namespace, Name: of.Name}
		for _, p := range c.targets(pod, s) {
			old, ok := found[p.Port]
			if !ok {
				old = federation.InboundPort{Port: p.Port, Service: key}
			}
			if old.Protocol == federation.ProtocolAuto {
				old.Protocol = p.Protocol
			}
			found[p.Port] = old
			if e := c.exports[of]; e != nil && !b.in.reserved(of.Namespace) {
				exports[p.Port] = append(exports[p.Port], e)
			}
		}
	}
	for number, by := range exports {
		p := found[number]
		p.From, p.NoEntry = c.callers(by)
		found[number] = p
	}
	return slices.SortedFunc(maps.Values(found), func(a, b federation.InboundPort) int { return cmp.Compare(a.Port, b.Port) })
}

// servicesOf lists the services whose slices name the pod, sorted.
func (c *cluster) servicesOf(pod Name) []Name {
	var out []Name
	for _, s := range c.slicesAt[pod] {
		out = append(out, Name{s.Namespace, s.Service})
	}
	slices.SortFunc(out, Name.Compare)
	return slices.Compact(out)
}

// targets lists the pod's ports behind the ports of s, in the order of the
// service's ports.
func (c *cluster) targets(pod Name, s *Service) []federation.InboundPort {
	var out []federation.InboundPort
	for _, p := range s.Ports {
		if p.Transport != mcs.TCP {
			continue
		}
		for _, slice := range c.slicesAt[pod] {
			if slice.Service != s.Name.Name {
				continue
			}
			for _, target := range slice.Ports {
				if target.Name == p.Name {
					out = append(out, federation.InboundPort{Port: target.Number, Protocol: p.Protocol})
				}
			}
		}
	}
	return out
}
