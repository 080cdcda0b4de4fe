package controllers

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/trust"
)

// checkpoint is what a slice of export remembers beside the addresses in it,
// which are those of reachable.
func checkpoint(s *federation.Snapshot, svc *federation.Service, export *federation.Export, reachable []federation.Endpoint) federation.Checkpoint {
	out := federation.Checkpoint{ExportedSince: export.Since, Headless: svc.Headless, Ports: slices.Clone(export.Ports), Declared: export.Declared, NoEntry: export.NoEntry}
	if c := s.Cluster(export.Cluster); c != nil {
		out.Network = c.Network
		for _, g := range c.Gateways {
			out.Gateways = append(out.Gateways, g.Addr.String())
		}
		slices.Sort(out.Gateways)
	}
	type at struct {
		port     uint16
		locality federation.Locality
	}
	ready := map[at]uint32{}
	accounts := map[trust.ID]bool{}
	for i := range svc.Endpoints {
		e := &svc.Endpoints[i]
		if e.Cluster != export.Cluster || e.Tunnel != federation.TunnelMTLS {
			continue
		}
		if !e.Account.IsZero() {
			accounts[e.Account] = true
		}
		for _, p := range export.Ports {
			if _, ok := e.Target(p.Number); ok && e.Health == federation.Ready && serves(svc, p) {
				ready[at{p.Number, e.Locality}]++
			}
		}
	}
	for k, n := range ready {
		out.Ready = append(out.Ready, federation.CheckpointCount{Port: k.port, Locality: k.locality, Count: n})
	}
	slices.SortFunc(out.Ready, func(a, b federation.CheckpointCount) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Locality.Region, b.Locality.Region), cmp.Compare(a.Locality.Zone, b.Locality.Zone))
	})
	for id := range accounts {
		out.Accounts = append(out.Accounts, id)
	}
	slices.SortFunc(out.Accounts, trust.ID.Compare)
	out.Plaintext = plaintext(reachable)
	return out
}

// plaintext lists the addresses without a sidecar.
func plaintext(endpoints []federation.Endpoint) []netip.Addr {
	var out []netip.Addr
	for _, e := range endpoints {
		if e.Tunnel == federation.TunnelNone {
			out = append(out, e.Addr)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// serves reports whether a cluster's own port leads to one of the import's: that of
// its number, whatever it is called. One whose name another number has won leads
// to none. (mcs.Resolve)
func serves(svc *federation.Service, own federation.Port) bool {
	return slices.ContainsFunc(svc.Ports, func(p federation.Port) bool { return p.Number == own.Number })
}
