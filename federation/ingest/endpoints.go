package ingest

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/trust"
)

// MaxEndpoints is how many endpoints of one service are taken from one
// cluster; the rest is refused with a problem.
const MaxEndpoints = 10_000

// portMap says which of a service's ports (by number) a slice's port of that
// name serves. Several may have the same target.
type portMap map[string][]uint16

// otherMap does so for ports that are not TCP.
type otherMap map[string]federation.DeclaredPort

// of returns what the ports of a slice serve.
func (m otherMap) of(ports []OtherPort) []federation.OtherPort {
	var out []federation.OtherPort
	for _, p := range ports {
		if to, ok := m[p.Name]; ok && to.Transport == p.Transport {
			out = append(out, federation.OtherPort{Transport: p.Transport, Service: to.Number, Target: p.Number})
		}
	}
	return out
}

// reporter takes the problems of one object.
type reporter func(reason, message string)

// endpoints reads the slices of service n in cluster c. One pod is one
// endpoint, of the service's first IP family where it has both.
func (b *builder) endpoints(c *cluster, n Name, ports portMap, others otherMap, report reporter) []federation.Endpoint {
	g := gathering{b: b, c: c, network: b.networks[c.Name], ports: ports, others: others, at: map[place]*federation.Endpoint{}}
	if s := c.services[n]; s != nil && len(s.IPs) > 0 {
		g.v6 = s.IPs[0].Is6()
	} else if s != nil && len(s.Spec.Families) > 0 {
		g.v6 = s.Spec.Families[0] == "IPv6"
	}
	for _, id := range sortedKeys(c.slicesOf[n]) {
		s := c.slicesOf[n][id]
		for i := range s.Endpoints {
			g.add(s, &s.Endpoints[i])
		}
	}
	return g.finish(report)
}

// place tells endpoints apart: by pod, or by address where there is none.
type place struct {
	pod  string
	addr netip.Addr
}

type gathering struct {
	b       *builder
	c       *cluster
	network federation.NetworkName
	ports   portMap
	others  otherMap
	v6      bool
	at      map[place]*federation.Endpoint
	refused []string
	claims  []string // refused as another cluster's
	odd     []string // taken, but for a value
}

func (g *gathering) add(s *Slice, e *SliceEndpoint) {
	if why := g.claimed(e); why != "" {
		g.claims = append(g.claims, fmt.Sprintf("%s of slice %s is %s", e.Addr, s.Name.Name, why))
		return
	}
	if why := g.refuse(e); why != "" {
		g.refused = append(g.refused, fmt.Sprintf("%s of slice %s is %s", cmp.Or(e.Bad, e.Addr.String()), s.Name.Name, why))
		return
	}
	good, bad := soundEndpoint(*e)
	if bad != "" {
		g.odd = append(g.odd, fmt.Sprintf("%s of %s in slice %s", bad, e.Addr, s.Name.Name))
	}
	made := g.endpoint(s, &good)
	where := place{pod: e.Pod}
	if e.Pod == "" {
		where.addr = e.Addr
	}
	old := g.at[where]
	switch {
	case old == nil:
		g.at[where] = &made
	case old.Addr == made.Addr: // one endpoint in two slices
		old.Ports = append(old.Ports, made.Ports...)
		old.Others = append(old.Others, made.Others...)
		old.Health = min(old.Health, made.Health)
	case g.better(made.Addr, old.Addr):
		g.at[where] = &made
	}
}

// better reports whether a pod is called at a rather than at b.
func (g *gathering) better(a, b netip.Addr) bool {
	if a.Is6() != b.Is6() {
		return a.Is6() == g.v6
	}
	return a.Less(b)
}

func (g *gathering) refuse(e *SliceEndpoint) string {
	if e.Bad != "" {
		return "no IP address"
	}
	if why := special(e.Addr); why != "" {
		return why
	}
	if e.Pod != "" && len(validation.IsDNS1123Subdomain(e.Pod)) > 0 {
		return "of a pod with a name that none has"
	}
	return ""
}

// claimed says whose address a remote's endpoint has, where that is another's.
func (g *gathering) claimed(e *SliceEndpoint) string {
	if g.c.Local || special(e.Addr) != "" {
		return ""
	}
	return g.b.claimed(g.c, e.Addr)
}

func (g *gathering) endpoint(s *Slice, e *SliceEndpoint) federation.Endpoint {
	out := federation.Endpoint{
		Cluster: g.c.Name, Network: g.network, Addr: e.Addr, Pod: e.Pod, Hostname: e.Hostname, Health: e.Health,
		Locality: g.c.localityOf(e.Node, e.Zone),
	}
	out.Others = g.others.of(s.Others)
	for _, p := range s.Ports {
		for _, number := range g.ports[p.Name] {
			out.Ports = append(out.Ports, federation.EndpointPort{Service: number, Target: p.Number})
		}
	}
	if e.Pod == "" {
		return out
	}
	pod := g.c.pods[Name{s.Namespace, e.Pod}]
	if pod == nil || pod.Done || !slices.Contains(pod.Addrs, e.Addr) {
		// The two watches have not met yet. Whether it has a sidecar is not
		// known, and plaintext to one that has must not be tried.
		out.Health = federation.NotReady
		return out
	}
	if e.Node == "" {
		out.Locality = g.c.localityOf(pod.Node, e.Zone)
	}
	if id, err := trust.NewID(g.b.in.Domain, pod.Namespace, pod.Account); err == nil && pod.Injected {
		out.Account, out.Tunnel = id, federation.TunnelMTLS
	}
	return out
}

func (c *cluster) localityOf(node, zone string) federation.Locality {
	l := federation.Locality{Zone: zone}
	if n := c.nodes[Name{Name: node}]; n != nil {
		l.Region, l.Zone = n.Locality.Region, cmp.Or(zone, n.Locality.Zone)
	}
	return l
}

func (g *gathering) finish(report reporter) []federation.Endpoint {
	if len(g.refused) > 0 {
		slices.Sort(g.refused)
		report("EndpointRefused", fmt.Sprintf("%d endpoints refused: %s", len(g.refused), g.refused[0]))
	}
	if len(g.claims) > 0 {
		slices.Sort(g.claims)
		report(addressClaimed, fmt.Sprintf("%d endpoints refused: %s", len(g.claims), g.claims[0]))
	}
	if len(g.odd) > 0 {
		slices.Sort(g.odd)
		report(invalidEndpoint, fmt.Sprintf("%d values of endpoints cannot be and are not used: %s", len(g.odd), g.odd[0]))
	}
	out := make([]federation.Endpoint, 0, len(g.at))
	for _, e := range g.at {
		slices.SortFunc(e.Ports, func(a, b federation.EndpointPort) int {
			return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Target, b.Target))
		})
		slices.SortFunc(e.Others, func(a, b federation.OtherPort) int {
			return cmp.Or(cmp.Compare(a.Transport, b.Transport), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Target, b.Target))
		})
		e.Others = slices.CompactFunc(e.Others, func(a, b federation.OtherPort) bool { return a.Transport == b.Transport && a.Service == b.Service })
		e.Ports = slices.CompactFunc(e.Ports, func(a, b federation.EndpointPort) bool { return a.Service == b.Service })
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b federation.Endpoint) int { return a.Compare(&b) })
	if len(out) > MaxEndpoints {
		report("TooManyEndpoints", fmt.Sprintf("%d endpoints, more than %d; the rest is left out", len(out), MaxEndpoints))
		out = out[:MaxEndpoints:MaxEndpoints]
	}
	if g.c.Served {
		out = g.splitDisabled(out)
	}
	return out
}

// splitDisabled gives the ports whose sidecar takes plaintext only (mTLS mode
// DISABLE) to an endpoint of their own that is called so.
func (g *gathering) splitDisabled(in []federation.Endpoint) []federation.Endpoint {
	var out []federation.Endpoint
	for _, e := range in {
		if e.Tunnel != federation.TunnelMTLS {
			out = append(out, e)
			continue
		}
		mode, ports := g.b.policies.modes(g.c, g.c.pods[Name{e.Account.Namespace(), e.Pod}])
		plain := e
		plain.Ports, plain.Tunnel, plain.Account = nil, federation.TunnelNone, trust.ID{}
		var meshed []federation.EndpointPort
		for _, p := range e.Ports {
			if modeOf(mode, ports, p.Target) == federation.MTLSDisable {
				plain.Ports = append(plain.Ports, p)
			} else {
				meshed = append(meshed, p)
			}
		}
		if len(plain.Ports) == 0 {
			out = append(out, e)
			continue
		}
		if e.Ports = meshed; len(meshed) > 0 {
			out = append(out, e)
			plain.Others = nil // once is enough
		}
		out = append(out, plain)
	}
	return out
}

func modeOf(general federation.MTLSMode, ports []federation.PortMode, port uint16) federation.MTLSMode {
	for _, p := range ports {
		if p.Port == port {
			return p.Mode
		}
	}
	return general
}

// accounts lists who may answer: the identities of the endpoints with a sidecar.
func accounts(endpoints []federation.Endpoint, more []trust.ID) []trust.ID {
	out := slices.Clone(more)
	for i := range endpoints {
		if e := &endpoints[i]; e.Tunnel == federation.TunnelMTLS && !e.Account.IsZero() {
			out = append(out, e.Account)
		}
	}
	slices.SortFunc(out, trust.ID.Compare)
	return slices.Compact(out)
}
