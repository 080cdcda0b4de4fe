package ingest

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/mcs"
)

// local makes the cluster.local service n as the proxies of cluster c call it,
// or nil: of clusters served elsewhere, of the system namespace, of services
// that are derived from imports and of those without a TCP port there is none.
func (b *builder) local(c *cluster, n Name) *federation.Service {
	s := c.services[n]
	if s == nil || !c.Served || s.External || s.Import != "" || n.Namespace == b.in.Namespace {
		return nil
	}
	out := &federation.Service{
		Key:      federation.ServiceKey{Cluster: c.Name, Namespace: n.Namespace, Name: n.Name},
		Headless: s.Headless, Ports: tcpPorts(s), SameZone: s.SameZone,
	}
	if len(out.Ports) == 0 || !s.Headless && len(s.IPs) == 0 {
		return nil
	}
	if !validName(n) {
		b.problem(c.Name, kindService, n, "InvalidName", "the name is no DNS label")
		return nil
	}
	for _, a := range s.IPs {
		out.VIPs = append(out.VIPs, federation.VIP{Cluster: c.Name, Addr: a})
	}
	sortVIPs(out.VIPs)
	ports := portMap{}
	for _, p := range s.Ports {
		if p.Transport == mcs.TCP {
			ports[p.Name] = append(ports[p.Name], p.Number)
		}
	}
	out.Endpoints = b.endpoints(c, n, ports, nil, func(reason, message string) { b.problem(c.Name, kindService, n, reason, message) })
	out.Accounts = accounts(out.Endpoints, nil)
	return out
}

func tcpPorts(s *Service) []federation.Port {
	var out []federation.Port
	for _, p := range s.Ports {
		if p.Transport == mcs.TCP && p.Number > 0 {
			out = append(out, federation.Port{Name: p.Name, Number: p.Number, Protocol: p.Protocol})
		}
	}
	return sortPorts(out)
}

func sortPorts(ports []federation.Port) []federation.Port {
	slices.SortFunc(ports, func(a, b federation.Port) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Name, b.Name))
	})
	return slices.CompactFunc(ports, func(a, b federation.Port) bool { return a.Number == b.Number })
}

func sortVIPs(vips []federation.VIP) {
	slices.SortFunc(vips, func(a, b federation.VIP) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), a.Addr.Compare(b.Addr))
	})
}

// validName reports whether both parts are DNS labels. Every API server makes
// sure of that; one that does not must not get strange names into ours.
func validName(n Name) bool { return label(n.Namespace) && label(n.Name) }

func label(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// vips returns the addresses of the clusterset service n: in each served
// cluster those of its derived Service and of its ServiceImport.
func (b *builder) vips(n Name) []federation.VIP {
	var out []federation.VIP
	add := func(c *cluster, addrs []netip.Addr) {
		for _, a := range addrs {
			if v := (federation.VIP{Cluster: c.Name, Addr: a}); special(a) == "" && !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
	}
	for _, name := range b.names {
		c := b.in.clusters[name]
		if !c.Served {
			continue
		}
		for _, s := range c.derived[n] {
			add(c, s.IPs)
		}
		if i := c.imports[n]; i != nil {
			add(c, i.IPs)
		}
	}
	sortVIPs(out)
	return out
}
