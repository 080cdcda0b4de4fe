package controllers

import (
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/isthmus-mesh/isthmus/federation"
)

// stand is where who answers for a port stands for callers without a sidecar:
// kube-proxy knows no priorities, so that only those of the first stand with
// anybody are ready. A cluster to which traffic returns counts as drained for as
// long: there are no shares either.
type stand int

const (
	standNear        stand = iota // pods of the own network
	standFar                      // the entry gateway, to other networks
	standNearDrained              // both once more, of drained clusters
	standFarDrained
	standNobody
)

func (b *sliceBuilder) drained(cluster federation.ClusterName) bool {
	c := b.s.Cluster(cluster)
	return c != nil && c.Drain != nil
}

// first returns the first stand where somebody answers for a TCP port.
func (b *sliceBuilder) first(port uint16) stand {
	if known, ok := b.firsts[port]; ok {
		return known
	}
	found := standNobody
	for i := range b.svc.Endpoints {
		e := &b.svc.Endpoints[i]
		if _, ok := e.Target(port); ok && b.answersHere(e) {
			found = min(found, b.standOf(e.Cluster))
		}
	}
	for i := range b.svc.Exports {
		export := &b.svc.Exports[i]
		if entry, ok := b.entryPorts(export)[port]; ok && b.served(export.Cluster, port, entry) {
			found = min(found, b.standOf(export.Cluster))
		}
	}
	if b.firsts == nil {
		b.firsts = map[uint16]stand{}
	}
	b.firsts[port] = found
	return found
}

func (b *sliceBuilder) standOf(cluster federation.ClusterName) stand {
	near, drained := b.s.Cluster(cluster) == nil || b.s.Cluster(cluster).Network == b.network(), b.drained(cluster)
	switch {
	case near && !drained:
		return standNear
	case !drained:
		return standFar
	case near:
		return standNearDrained
	}
	return standFarDrained
}

// answersHere reports whether e is a ready pod of the own network.
func (b *sliceBuilder) answersHere(e *federation.Endpoint) bool {
	if e.Network != b.network() || e.Health != federation.Ready || b.svc.HiddenFrom(e.Cluster) {
		return false
	}
	c := b.s.Cluster(e.Cluster)
	return c == nil || !c.Lost
}

// podEndpoint is sliceEndpoint, but of a drained cluster's pod that is held back
// from callers: it still serves, is not ready, and does not end, which no other
// endpoint says. A headless service's pods are chosen by their callers.
func (b *sliceBuilder) podEndpoint(e *federation.Endpoint) discoveryv1.Endpoint {
	out := sliceEndpoint(e)
	if b.heldBack(e) {
		out.Conditions.Ready = new(false)
	}
	return out
}

// heldBack reports whether others answer for everything that e does.
func (b *sliceBuilder) heldBack(e *federation.Endpoint) bool {
	if b.svc.Headless || e.Health != federation.Ready || !b.drained(e.Cluster) {
		return false
	}
	for _, p := range e.Ports {
		if b.first(p.Service) >= standNearDrained {
			return false
		}
	}
	for _, p := range e.Others {
		if !slices.ContainsFunc(b.svc.Endpoints, func(o federation.Endpoint) bool {
			_, ok := o.Other(p.Transport, p.Service)
			return ok && b.answersHere(&o) && !b.drained(o.Cluster)
		}) {
			return false
		}
	}
	return true
}
