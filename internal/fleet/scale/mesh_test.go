package scale_test

import (
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/fleet"
)

// mesh is what the exports should lead to, worked out apart from the code that
// is measured.
type mesh struct {
	shape    fleet.Shape
	exports  []fleet.Export
	services map[string]*service // by load assignment's name
	gateways map[string]int      // by network
}

type service struct {
	name    string
	exports []int // indexes
	ready   map[int]int
}

// newMesh is of the exports in the first so many namespaces, which are those that
// the local cluster has.
func newMesh(shape fleet.Shape, namespaces int) *mesh {
	here := shape.NamespaceNames()[:namespaces]
	exports := slices.DeleteFunc(shape.Exports(), func(e fleet.Export) bool { return !slices.Contains(here, e.Namespace) })
	m := &mesh{shape: shape, exports: exports, services: map[string]*service{}, gateways: map[string]int{}}
	for i := range shape.Clusters {
		m.gateways[shape.Network(i)]++
	}
	for i, e := range m.exports {
		name := assignment(e)
		if m.services[name] == nil {
			m.services[name] = &service{name: name, ready: map[int]int{}}
		}
		s := m.services[name]
		s.exports = append(s.exports, i)
		s.ready[i] = e.Pods
	}
	return m
}

// assignment is the name of an export's load assignment.
func assignment(e fleet.Export) string {
	return fmt.Sprintf("outbound|%d||%s.%s.svc.clusterset.local", fleet.Port, e.Name, e.Namespace)
}

// own reports whether export i is on the local cluster's network.
func (m *mesh) own(i int) bool { return m.shape.Network(m.exports[i].Cluster) == m.shape.Networks[0] }

// behind sums the ready pods of a service by network.
func (m *mesh) behind(s *service) map[string]int {
	out := map[string]int{}
	for _, i := range s.exports {
		out[m.shape.Network(m.exports[i].Cluster)] += s.ready[i]
	}
	return out
}

// hops is how many endpoints a local proxy has of a service: the pods of its own
// network, and every gateway of each other network with a ready pod.
func (m *mesh) hops(s *service) int {
	n := 0
	for network, ready := range m.behind(s) {
		if network == m.shape.Networks[0] {
			n += ready
		} else if ready > 0 {
			n += m.gateways[network]
		}
	}
	return n
}

func (m *mesh) want() map[string]int {
	out := map[string]int{}
	for name, s := range m.services {
		out[name] = m.hops(s)
	}
	return out
}

// look is what a local proxy sees of a service, weights included: a gateway's is
// its share of the ready pods behind, and at least 1.
func (m *mesh) look(s *service) string {
	behind := m.behind(s)
	out := fmt.Sprint(behind[m.shape.Networks[0]])
	for _, network := range m.shape.Networks[1:] {
		gateways, ready := m.gateways[network], behind[network]
		if ready > 0 {
			ready = max(ready, gateways)
		}
		out += fmt.Sprintf(" %s=%d", network, ready)
	}
	return out
}

// set notes that export i has n ready pods, and reports whether local proxies
// see a difference.
func (m *mesh) set(i, n int) bool {
	s := m.services[assignment(m.exports[i])]
	before := m.look(s)
	s.ready[i] = n
	return m.look(s) != before
}

// pick returns the first export that ok accepts.
func (m *mesh) pick(ok func(i int) bool) int {
	return slices.IndexFunc(slices.Collect(func(yield func(int) bool) {
		for i := range m.exports {
			if !yield(i) {
				return
			}
		}
	}), ok)
}
