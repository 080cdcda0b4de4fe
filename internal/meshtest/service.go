package meshtest

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/trust"
)

func (p *parser) entry(w words) error {
	service, err1 := number(w.at(1))
	port, err2 := number(w.at(2))
	p.svc.EntryPorts = append(p.svc.EntryPorts, federation.EntryPort{Cluster: federation.ClusterName(w.at(0)), Service: service, Port: port})
	return cmp.Or(err1, err2)
}

func (p *parser) service(w words) error {
	host, cluster, _ := strings.Cut(w.at(0), "@")
	name, namespace, ok := strings.Cut(host, ".")
	if !ok {
		return fmt.Errorf("want NAME.NAMESPACE[@CLUSTER]")
	}
	p.svc = &federation.Service{
		Key:      federation.ServiceKey{Cluster: federation.ClusterName(cluster), Namespace: namespace, Name: name},
		Headless: w.has("headless"), SameZone: w.has("samezone"), Failover: w.has("failover"),
	}
	p.parts.Services[p.svc.Key] = p.svc
	return nil
}

func (p *parser) export(w words) error {
	e := federation.Export{
		Cluster: federation.ClusterName(w.at(0)), Checkpoint: w.has("checkpoint"),
		To: clusters(w.keyed["to"]), Hidden: w.has("hidden"), NoEntry: w.has("noentry"),
	}
	for _, f := range w.plain[1:] {
		if port, proto, ok := strings.Cut(f, "/"); ok {
			if err := addPort(&e, port, proto); err != nil {
				return err
			}
		}
	}
	p.svc.Exports = append(p.svc.Exports, e)
	return nil
}

// addPort adds the port of an export, NUMBER or, where the import has another for
// it, NUMBER>IMPORT.
func addPort(e *federation.Export, port, proto string) error {
	own, imported, differs := strings.Cut(port, ">")
	n, err := number(own)
	if err != nil {
		return err
	}
	e.Ports = append(e.Ports, federation.Port{Number: n, Protocol: protocol(proto)})
	if differs {
		if n, err = number(imported); err != nil {
			return err
		}
	}
	e.Numbers = append(e.Numbers, n)
	return nil
}

func (p *parser) endpoint(w words) error {
	addr, err := netip.ParseAddr(w.at(1))
	if err != nil {
		return err
	}
	e := federation.Endpoint{
		Cluster: federation.ClusterName(w.at(0)), Addr: addr, Pod: w.keyed["pod"], Hostname: w.keyed["hostname"],
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

func sortService(s *federation.Service) {
	slices.SortFunc(s.VIPs, func(a, b federation.VIP) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), a.Addr.Compare(b.Addr))
	})
	slices.SortFunc(s.Ports, func(a, b federation.Port) int { return cmp.Compare(a.Number, b.Number) })
	slices.SortFunc(s.Endpoints, func(a, b federation.Endpoint) int { return a.Compare(&b) })
	slices.SortFunc(s.Counts, func(a, b federation.RemoteCount) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Port, b.Port))
	})
	slices.SortFunc(s.EntryPorts, func(a, b federation.EntryPort) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Port, b.Port))
	})
	slices.SortFunc(s.Synthetic, func(a, b federation.Synthetic) int {
		return cmp.Or(cmp.Compare(a.In, b.In), cmp.Compare(a.Of, b.Of), cmp.Compare(a.Pod, b.Pod), a.Addr.Compare(b.Addr))
	})
	slices.SortFunc(s.Exports, func(a, b federation.Export) int { return cmp.Compare(a.Cluster, b.Cluster) })
	slices.SortFunc(s.Accounts, trust.ID.Compare)
	s.Accounts = slices.Compact(s.Accounts)
}
