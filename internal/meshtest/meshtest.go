// Package meshtest reads a mesh from text, a line per fact, for tests of what
// comes after the snapshot:
//
//	cluster east network=blue region=eu local read gateways=192.0.2.1:15443
//	cluster west network=green region=eu read gateways=192.0.2.7:15443,192.0.2.8:15443/silent
//	service reviews.shop                      of the clusterset; reviews.shop@east is east's own
//	  port 9080 http
//	  vip east 10.96.0.7
//	  export west 9080/http
//	  endpoint west 10.2.0.4 pod=reviews-1 account=reviews mtls 9080:9080
//	  count west 9080 2
//	workload east/shop/web-1 account=web mtls=strict 8080/http
//
// Empty lines and lines that begin with # say nothing.
package meshtest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/trust"
)

// Snapshot returns the snapshot of text.
func Snapshot(t testing.TB, text string) *federation.Snapshot {
	t.Helper()
	parts, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return federation.NewSnapshot(parts)
}

// Shuffled returns text with its facts in another order: the clusters, services
// and workloads among themselves, and the lines of each service.
func Shuffled(text string, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 1))
	var blocks [][]string
	for _, line := range lines(text) {
		if strings.HasPrefix(line, " ") && len(blocks) > 0 {
			blocks[len(blocks)-1] = append(blocks[len(blocks)-1], line)
		} else {
			blocks = append(blocks, []string{line})
		}
	}
	r.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
	var out []string
	for _, b := range blocks {
		r.Shuffle(len(b)-1, func(i, j int) { b[i+1], b[j+1] = b[j+1], b[i+1] })
		out = append(out, b...)
	}
	return strings.Join(out, "\n")
}

func lines(text string) []string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		if trimmed := strings.TrimSpace(line); trimmed != "" && !strings.HasPrefix(trimmed, "#") {
			out = append(out, line)
		}
	}
	return out
}

// Parse reads text. All lists come out sorted, as ingest makes them.
func Parse(text string) (federation.Parts, error) {
	parts := federation.Parts{
		Services:  map[federation.ServiceKey]*federation.Service{},
		Workloads: map[federation.WorkloadKey]*federation.Workload{},
		Clusters:  map[federation.ClusterName]*federation.Cluster{},
	}
	p := parser{parts: parts}
	all := lines(text)
	// Clusters first: endpoints take their network from them.
	for _, pass := range []bool{true, false} {
		for _, line := range all {
			if strings.HasPrefix(line, "cluster ") != pass {
				continue
			}
			if err := p.line(line); err != nil {
				return parts, fmt.Errorf("%q: %w", line, err)
			}
		}
	}
	for _, svc := range parts.Services {
		sortService(svc)
	}
	return parts, nil
}

type parser struct {
	parts federation.Parts
	svc   *federation.Service
}

// words are a line's values by key, and those without key in order.
type words struct {
	plain []string
	keyed map[string]string
}

func split(line string) words {
	w := words{keyed: map[string]string{}}
	for _, f := range strings.Fields(line)[1:] {
		if k, v, ok := strings.Cut(f, "="); ok {
			w.keyed[k] = v
		} else {
			w.plain = append(w.plain, f)
		}
	}
	return w
}

func (w words) at(i int) string {
	if i < len(w.plain) {
		return w.plain[i]
	}
	return ""
}

func (w words) has(flag string) bool { return slices.Contains(w.plain, flag) }

func (p *parser) line(line string) error {
	w := split(line)
	switch strings.Fields(line)[0] {
	case "cluster":
		return p.cluster(w)
	case "service":
		return p.service(w)
	case "workload":
		return p.workload(w)
	case "port":
		n, err := number(w.at(0))
		p.svc.Ports = append(p.svc.Ports, federation.Port{Number: n, Protocol: protocol(w.at(1)), Name: w.at(1)})
		return err
	case "vip":
		a, err := netip.ParseAddr(w.at(1))
		p.svc.VIPs = append(p.svc.VIPs, federation.VIP{Cluster: federation.ClusterName(w.at(0)), Addr: a})
		return err
	case "export":
		return p.export(w)
	case "endpoint":
		return p.endpoint(w)
	case "count":
		return p.count(w)
	case "account":
		id, err := Account(p.svc.Key.Namespace, w.at(0))
		p.svc.Accounts = append(p.svc.Accounts, id)
		return err
	}
	return fmt.Errorf("unknown kind of fact")
}

func (p *parser) cluster(w words) error {
	priority, _ := strconv.Atoi(w.keyed["priority"])
	c := &federation.Cluster{
		Name:     federation.ClusterName(w.at(0)),
		Network:  federation.NetworkName(w.keyed["network"]),
		Locality: federation.Locality{Region: w.keyed["region"]},
		Priority: priority,
		Local:    w.has("local"), Read: w.has("read"), Reachable: !w.has("unreachable"), Lost: w.has("lost"),
	}
	for g := range strings.SplitSeq(w.keyed["gateways"], ",") {
		if g == "" {
			continue
		}
		addr, silent := strings.CutSuffix(g, "/silent")
		a, err := netip.ParseAddrPort(addr)
		if err != nil {
			return err
		}
		c.Gateways = append(c.Gateways, federation.Gateway{Addr: a, Silent: silent})
	}
	slices.SortFunc(c.Gateways, func(a, b federation.Gateway) int { return a.Addr.Compare(b.Addr) })
	p.parts.Clusters[c.Name] = c
	return nil
}

func (p *parser) service(w words) error {
	host, cluster, _ := strings.Cut(w.at(0), "@")
	name, namespace, ok := strings.Cut(host, ".")
	if !ok {
		return fmt.Errorf("want NAME.NAMESPACE[@CLUSTER]")
	}
	p.svc = &federation.Service{
		Key:      federation.ServiceKey{Cluster: federation.ClusterName(cluster), Namespace: namespace, Name: name},
		Headless: w.has("headless"), SameZone: w.has("samezone"),
	}
	p.parts.Services[p.svc.Key] = p.svc
	return nil
}

func (p *parser) export(w words) error {
	e := federation.Export{Cluster: federation.ClusterName(w.at(0)), Checkpoint: w.has("checkpoint")}
	for _, f := range w.plain[1:] {
		if port, proto, ok := strings.Cut(f, "/"); ok {
			n, err := number(port)
			if err != nil {
				return err
			}
			e.Ports = append(e.Ports, federation.Port{Number: n, Protocol: protocol(proto)})
		}
	}
	p.svc.Exports = append(p.svc.Exports, e)
	return nil
}

func (p *parser) endpoint(w words) error {
	addr, err := netip.ParseAddr(w.at(1))
	if err != nil {
		return err
	}
	e := federation.Endpoint{
		Cluster: federation.ClusterName(w.at(0)), Addr: addr, Pod: w.keyed["pod"],
		Locality: federation.Locality{Zone: w.keyed["zone"]},
	}
	if c := p.parts.Clusters[e.Cluster]; c != nil {
		e.Network, e.Locality.Region = c.Network, c.Locality.Region
	}
	if n, ok := w.keyed["network"]; ok {
		e.Network = federation.NetworkName(n)
	}
	if a, ok := w.keyed["account"]; ok {
		if e.Account, err = Account(p.svc.Key.Namespace, a); err != nil {
			return err
		}
		p.svc.Accounts = append(p.svc.Accounts, e.Account)
	}
	if w.has("mtls") {
		e.Tunnel = federation.TunnelMTLS
	}
	if w.has("terminating") {
		e.Health = federation.Terminating
	} else if w.has("notready") {
		e.Health = federation.NotReady
	}
	for _, f := range w.plain[2:] {
		if service, target, ok := strings.Cut(f, ":"); ok {
			s, err1 := number(service)
			t, err2 := number(target)
			if err := cmp.Or(err1, err2); err != nil {
				return err
			}
			e.Ports = append(e.Ports, federation.EndpointPort{Service: s, Target: t})
		}
	}
	p.svc.Endpoints = append(p.svc.Endpoints, e)
	return nil
}

func (p *parser) count(w words) error {
	port, err1 := number(w.at(1))
	ready, err2 := strconv.ParseUint(w.at(2), 10, 32)
	c := federation.RemoteCount{Cluster: federation.ClusterName(w.at(0)), Port: port, Ready: uint32(ready)}
	if cl := p.parts.Clusters[c.Cluster]; cl != nil {
		c.Network = cl.Network
	}
	p.svc.Counts = append(p.svc.Counts, c)
	return cmp.Or(err1, err2)
}

func (p *parser) workload(w words) error {
	path := strings.Split(w.at(0), "/")
	if len(path) != 3 {
		return fmt.Errorf("want CLUSTER/NAMESPACE/POD")
	}
	load := &federation.Workload{
		Key:  federation.WorkloadKey{Cluster: federation.ClusterName(path[0]), Namespace: path[1], Name: path[2]},
		MTLS: mode(w.keyed["mtls"]),
	}
	if c := p.parts.Clusters[load.Key.Cluster]; c != nil {
		load.Network, load.Locality = c.Network, c.Locality
	}
	load.Locality.Zone = w.keyed["zone"]
	var err error
	if load.Account, err = Account(path[1], w.keyed["account"]); err != nil {
		return err
	}
	for _, f := range w.plain[1:] {
		port, proto, _ := strings.Cut(f, "/")
		n, err := number(port)
		if err != nil {
			return err
		}
		load.Inbound = append(load.Inbound, federation.InboundPort{Port: n, Protocol: protocol(proto)})
	}
	for k, v := range w.keyed {
		if port, ok := strings.CutPrefix(k, "mtls:"); ok {
			n, err := number(port)
			if err != nil {
				return err
			}
			load.PortMTLS = append(load.PortMTLS, federation.PortMode{Port: n, Mode: mode(v)})
		}
	}
	slices.SortFunc(load.PortMTLS, func(a, b federation.PortMode) int { return cmp.Compare(a.Port, b.Port) })
	p.parts.Workloads[load.Key] = load
	return nil
}

// Account returns the identity of account in namespace of the default domain.
func Account(namespace, account string) (trust.ID, error) {
	return trust.ParseID("spiffe://" + api.DefaultTrustDomain + "/ns/" + namespace + "/sa/" + account)
}

func number(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}

func protocol(s string) federation.Protocol {
	switch s {
	case "http":
		return federation.ProtocolHTTP
	case "http2":
		return federation.ProtocolHTTP2
	case "tcp":
		return federation.ProtocolTCP
	case "udp":
		return federation.ProtocolUDP
	}
	return federation.ProtocolAuto
}

func mode(s string) federation.MTLSMode {
	switch s {
	case "strict":
		return federation.MTLSStrict
	case "disable":
		return federation.MTLSDisable
	}
	return federation.MTLSPermissive
}

func sortService(s *federation.Service) {
	slices.SortFunc(s.VIPs, func(a, b federation.VIP) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), a.Addr.Compare(b.Addr))
	})
	slices.SortFunc(s.Ports, func(a, b federation.Port) int { return cmp.Compare(a.Number, b.Number) })
	slices.SortFunc(s.Endpoints, func(a, b federation.Endpoint) int { return a.Compare(&b) })
	slices.SortFunc(s.Counts, func(a, b federation.RemoteCount) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Port, b.Port))
	})
	slices.SortFunc(s.Exports, func(a, b federation.Export) int { return cmp.Compare(a.Cluster, b.Cluster) })
	slices.SortFunc(s.Accounts, trust.ID.Compare)
	s.Accounts = slices.Compact(s.Accounts)
}
