package ingest

import (
	"fmt"
	"iter"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
)

func (b *builder) clusters(prev *federation.Snapshot, changed Changes) map[federation.ClusterName]*federation.Cluster {
	out := map[federation.ClusterName]*federation.Cluster{}
	for _, name := range b.names {
		c := b.in.clusters[name]
		old := prev.Cluster(name)
		now := &federation.Cluster{
			Name: name, Network: b.networks[name], Priority: c.Priority,
			Local: c.Local, Read: c.Read, Reachable: c.Reachable, Since: since(c), Lost: c.Lost,
			Gateways: b.gateways(c),
		}
		now.Drain, now.KeptAway = b.drain(c)
		if changed.All || old == nil {
			now.Locality = c.locality()
		} else {
			now.Locality = old.Locality
		}
		if c.Served {
			now.Entries = c.entries()
			now.ControlPlanes = c.controlPlanes(b.in.Namespace)
			if _, ok := changed.insides[name]; ok || changed.All || old == nil {
				now.Inside, now.ShutOut = c.inside()
				now.EntryFrom = b.in.entryFrom()
			} else {
				now.Inside, now.ShutOut, now.EntryFrom = old.Inside, old.ShutOut, old.EntryFrom
			}
		}
		out[name] = same(old, now)
	}
	return out
}

// drain is what the cluster says of itself, else what was last known of it; or
// what was asked for here, if that is lower.
func (b *builder) drain(c *cluster) (drain *federation.Drain, keptAway bool) {
	own := c.ClusterState.Drain
	if n := c.namespaces[Name{Name: b.in.Namespace}]; n != nil {
		own = n.Drain
		if n.BadDrain != "" {
			b.problem(c.Name, kindNamespace, Name{Name: b.in.Namespace}, "InvalidDrain", n.BadDrain+"; isthmus drain or isthmus undrain writes it anew")
		}
	}
	drain = own.Lower(c.KeepAway)
	return drain, drain != own
}

// networks says which network each cluster is on: what the cluster says of
// itself, else what its link or a checkpoint remembers, else one of its own.
func (in *Inputs) networks() map[federation.ClusterName]federation.NetworkName {
	out := map[federation.ClusterName]federation.NetworkName{}
	for name, c := range in.clusters {
		switch n := c.namespaces[Name{Name: in.Namespace}]; {
		case n != nil && n.Network != "":
			out[name] = federation.NetworkName(n.Network)
		case c.ClusterState.Network != "":
			out[name] = c.ClusterState.Network
		default:
			out[name] = federation.NetworkName(name)
			if cp := in.remembered(c); cp != nil && cp.Network != "" {
				out[name] = cp.Network
			}
		}
	}
	return out
}

// remembered returns the first checkpoint, by name, of a cluster that has not
// been read, or nil. All of a cluster say the same of its network and gateways.
func (in *Inputs) remembered(c *cluster) *federation.Checkpoint {
	if c.Read {
		return nil
	}
	var first Name
	var out *federation.Checkpoint
	for _, local := range in.clusters {
		if !local.Local {
			continue
		}
		for id, s := range local.from[Name{Name: string(c.Name)}] {
			if s.Checkpoint != nil && (out == nil || id.Compare(first) < 0) {
				first, out = id, s.Checkpoint
			}
		}
	}
	return out
}

// locality is that of the first node by name.
func (c *cluster) locality() federation.Locality {
	var first *Node
	for _, n := range c.nodes {
		if first == nil || n.Node < first.Node {
			first = n
		}
	}
	if first == nil {
		return federation.Locality{}
	}
	return first.Locality
}

// gateways returns the addresses of the cluster's east-west gateways: those
// given on the link; else those of its Services; else the checkpoint's.
func (b *builder) gateways(c *cluster) []federation.Gateway {
	var out []federation.Gateway
	switch cp := b.in.remembered(c); {
	case len(c.Gateways) > 0:
		out = b.parseGateways(c, c.Gateways, Name{b.in.Namespace, api.EastWestName})
	case cp != nil:
		out = b.parseGateways(c, cp.Gateways, Name{b.in.Namespace, api.EastWestName})
	default:
		for id, s := range c.objects.gateways {
			if id.Namespace == b.in.Namespace {
				out = append(out, b.parseGateways(c, c.gatewayTexts(s), id)...)
			}
		}
	}
	for i := range out {
		out[i].SilentSince, out[i].Silent = c.Silent[out[i].Addr.String()]
	}
	slices.SortFunc(out, func(a, b federation.Gateway) int { return a.Addr.Compare(b.Addr) })
	return slices.CompactFunc(out, func(a, b federation.Gateway) bool { return a.Addr == b.Addr })
}

func (c *cluster) gatewayTexts(s *Service) []string { return GatewayAddresses(s, maps.Values(c.nodes)) }

// GatewayAddresses lists the outside addresses of an east-west gateway's Service as
// "host:port", in no order: those given by hand, else the load balancers', else a
// NodePort's at each of nodes.
func GatewayAddresses(s *Service, nodes iter.Seq[*Node]) []string {
	if s.ByHand != "" {
		var out []string
		for t := range strings.SplitSeq(s.ByHand, ",") {
			out = append(out, strings.TrimSpace(t))
		}
		return out
	}
	if port, ok := gatewayPort(s); ok {
		return portAddresses(s, nodes, port)
	}
	return nil
}

// DoorAddresses lists where a gateway's Service leads to its port of that number,
// as GatewayAddresses does. Given by hand are hosts; the port is the Service's.
func DoorAddresses(s *Service, nodes iter.Seq[*Node], number uint16) []string {
	i := slices.IndexFunc(s.Ports, func(p ServicePort) bool { return p.Number == number })
	if i < 0 {
		return nil
	}
	if s.ByHand == "" {
		return portAddresses(s, nodes, s.Ports[i])
	}
	var out []string
	for _, t := range GatewayAddresses(s, nodes) {
		if host, _, err := net.SplitHostPort(t); err == nil {
			out = append(out, net.JoinHostPort(host, strconv.Itoa(int(number))))
		}
	}
	return out
}

func portAddresses(s *Service, nodes iter.Seq[*Node], port ServicePort) []string {
	var out []string
	for _, host := range s.Balancers {
		out = append(out, net.JoinHostPort(host, strconv.Itoa(int(port.Number))))
	}
	if len(out) > 0 || !s.NodePort || port.NodePort == 0 {
		return out
	}
	for n := range nodes {
		for _, a := range n.Addrs {
			out = append(out, netip.AddrPortFrom(a, port.NodePort).String())
		}
	}
	return out
}

// gatewayPort finds the port that leads to the gateway's listener.
func gatewayPort(s *Service) (ServicePort, bool) {
	want := strconv.Itoa(api.PortEastWest)
	i := slices.IndexFunc(s.Ports, func(p ServicePort) bool { return p.Number == api.PortEastWest })
	if i < 0 {
		i = slices.IndexFunc(s.Ports, func(p ServicePort) bool { return p.Target == want })
	}
	if i < 0 {
		return ServicePort{}, false
	}
	return s.Ports[i], true
}

func (b *builder) parseGateways(c *cluster, texts []string, owner Name) []federation.Gateway {
	var out []federation.Gateway
	for _, t := range texts {
		addrs, err := b.in.gatewayAddrs(t)
		if err != nil {
			b.problem(c.Name, kindService, owner, "InvalidGatewayAddress", err.Error())
			continue
		}
		for _, a := range addrs {
			if why := special(a.Addr()); why != "" {
				b.problem(c.Name, kindService, owner, "GatewayAddressRefused", fmt.Sprintf("gateway address %s is %s", t, why))
				continue
			}
			if !c.Local {
				if why := b.claimed(c, a.Addr()); why != "" {
					b.problem(c.Name, kindService, owner, "GatewayAddressRefused", fmt.Sprintf("gateway address %s is %s", t, why))
					continue
				}
			}
			out = append(out, federation.Gateway{Addr: a})
		}
	}
	return out
}

// gatewayAddrs turns "host:port" into addresses; a hostname that was not
// resolved yet has none.
func (in *Inputs) gatewayAddrs(t string) ([]netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(t)
	if err != nil {
		return nil, fmt.Errorf("gateway address %q is not host:port", t)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("gateway address %q: port is not a number from 1 to 65535", t)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(addr.Unmap().WithZone(""), uint16(port))}, nil
	}
	var out []netip.AddrPort
	for _, a := range in.resolved[host] {
		out = append(out, netip.AddrPortFrom(a, uint16(port)))
	}
	return out, nil
}

// GatewayHosts returns the hostnames among all gateway addresses, sorted: what
// somebody has to resolve and give to SetResolved.
func (in *Inputs) GatewayHosts() []string {
	var out []string
	for _, c := range in.clusters {
		texts := slices.Clone(c.Gateways)
		for _, s := range c.objects.gateways {
			if s.Namespace == in.Namespace {
				texts = append(texts, c.gatewayTexts(s)...)
			}
		}
		if cp := in.remembered(c); cp != nil {
			texts = append(texts, cp.Gateways...)
		}
		for _, t := range texts {
			host, _, err := net.SplitHostPort(t)
			if _, perr := netip.ParseAddr(host); err == nil && perr != nil && host != "" {
				out = append(out, host)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
