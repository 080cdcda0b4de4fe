package ingest

import (
	"net/netip"
	"reflect"

	"github.com/isthmus-mesh/isthmus/api"
)

// objects are a cluster's, with the indexes that tell what depends on what.
type objects struct {
	services   map[Name]*Service
	slices     map[Name]*Slice
	pods       map[Name]*Pod
	nodes      map[Name]*Node
	namespaces map[Name]*Namespace
	exports    map[Name]*Export
	policies   map[Name]*Policy
	imports    map[Name]*Import

	slicesOf index[*Slice]   // by service
	slicesAt index[*Slice]   // by pod
	imported index[*Slice]   // by import
	from     index[*Slice]   // imported ones, by source cluster
	derived  index[*Service] // by import
	gateways map[Name]*Service

	entryServices map[Name]struct{}
	entryPorts    owners[uint16]
	synthetic     owners[netip.Addr]
	ranges        ranges // of its nodes
}

// index holds objects by the name of something that they refer to.
type index[T any] map[Name]map[Name]T

func (i index[T]) add(at, id Name, o T) {
	if i[at] == nil {
		i[at] = map[Name]T{}
	}
	i[at][id] = o
}

func (i index[T]) remove(at, id Name) {
	delete(i[at], id)
	if len(i[at]) == 0 {
		delete(i, at)
	}
}

func newObjects() *objects {
	return &objects{
		services: map[Name]*Service{}, slices: map[Name]*Slice{}, pods: map[Name]*Pod{}, nodes: map[Name]*Node{},
		namespaces: map[Name]*Namespace{}, exports: map[Name]*Export{}, policies: map[Name]*Policy{}, imports: map[Name]*Import{},
		slicesOf: index[*Slice]{}, slicesAt: index[*Slice]{}, imported: index[*Slice]{}, from: index[*Slice]{}, derived: index[*Service]{}, gateways: map[Name]*Service{},
		entryServices: map[Name]struct{}{}, entryPorts: owners[uint16]{}, synthetic: owners[netip.Addr]{}, ranges: newRanges(),
	}
}

// put stores o, or removes what is there where o is nil, and notes what
// depends on the old and on the new form.
func (in *Inputs) put(c *cluster, kind Kind, id Name, o Object, ch *Changes) {
	switch kind {
	case KindService:
		if old, now, changed := swap(c.services, id, o); changed {
			c.putService(id, old, now, ch)
			in.putEntry(c, id, old, now, ch)
		}
	case KindSlice:
		if old, now, changed := swap(c.slices, id, o); changed {
			c.dropSlice(id, old, ch)
			c.addSlice(id, now, ch)
			in.putImported(old, ch)
			in.putImported(now, ch)
		}
	case KindPod:
		if old, now, changed := swap(c.pods, id, o); changed {
			c.touchInside(old, now, ch)
			ch.workload(c.Name, id)
			for _, s := range c.slicesAt[id] {
				ch.service(Name{s.Namespace, s.Service})
			}
		}
	case KindNode:
		if old, now, changed := swap(c.nodes, id, o); changed {
			c.ranges.add(old, -1)
			c.ranges.add(now, 1)
			in.claims.add(c.Name, old, -1)
			in.claims.add(c.Name, now, 1)
			ch.All = true
		}
	case KindNamespace:
		old, now, changed := swap(c.namespaces, id, o)
		switch {
		case changed && id.Name == in.Namespace && onlyDrain(old, now):
			ch.Clusters = true
		case changed && id.Name == in.Namespace:
			ch.All = true
		}
		if changed && c.Served && (old != nil && old.Refused) != (now != nil && now.Refused) {
			ch.inside(c.Name)
		}
	case KindExport:
		if old, now, changed := swap(c.exports, id, o); changed {
			ch.service(id)
			if !sameCallers(old, now) {
				c.touchPods(id, ch)
			}
		}
	case KindPolicy:
		if _, _, changed := swap(c.policies, id, o); changed {
			ch.All = true
		}
	case KindImport:
		if _, _, changed := swap(c.imports, id, o); changed {
			ch.service(id)
		}
	}
}

// onlyDrain reports whether two forms of a system namespace differ in nothing but
// the drain.
func onlyDrain(old, now *Namespace) bool {
	if old == nil || now == nil {
		return false
	}
	without := *now
	without.Drain, without.BadDrain = old.Drain, old.BadDrain
	return reflect.DeepEqual(old, &without)
}

// putEntry notes whether a Service is that of entry gateways.
func (in *Inputs) putEntry(c *cluster, id Name, old, now *Service, ch *Changes) {
	was, is := old != nil && old.Entry, now != nil && now.Entry
	if was == is || id.Namespace != in.Namespace {
		return
	}
	ch.Clusters = true
	if delete(c.entryServices, id); is {
		c.entryServices[id] = struct{}{}
	}
}

// putImported marks everything where the slice remembers a cluster that has not
// been read: its network and gateways may come from there.
func (in *Inputs) putImported(s *Slice, ch *Changes) {
	if s == nil || s.Source == "" {
		return
	}
	if c := in.clusters[s.Source]; c != nil && !c.Read {
		ch.All = true
	}
}

// swap replaces m[id] by o and reports whether that made a difference.
func swap[T any](m map[Name]*T, id Name, o Object) (old, now *T, changed bool) {
	old = m[id]
	if o == nil {
		delete(m, id)
		return old, nil, old != nil
	}
	now = any(o).(*T)
	if old != nil && reflect.DeepEqual(old, now) {
		return old, old, false
	}
	m[id] = now
	return old, now, true
}

func (c *cluster) putService(id Name, old, now *Service, ch *Changes) {
	ch.service(id)
	if old != nil && old.Import != "" {
		c.derived.remove(Name{id.Namespace, old.Import}, id)
		ch.service(Name{id.Namespace, old.Import})
	}
	if now != nil && now.Import != "" {
		c.derived.add(Name{id.Namespace, now.Import}, id, now)
		ch.service(Name{id.Namespace, now.Import})
	}
	if old != nil && old.Gateway {
		delete(c.gateways, id)
		ch.Clusters = true
	}
	if now != nil && now.Gateway {
		c.gateways[id] = now
		ch.Clusters = true
	}
	c.touchPods(id, ch) // their inbound ports
}

// touchPods marks the workloads behind a service.
func (c *cluster) touchPods(service Name, ch *Changes) {
	for _, s := range c.slicesOf[service] {
		for i := range s.Endpoints {
			if pod := s.Endpoints[i].Pod; pod != "" {
				ch.workload(c.Name, Name{s.Namespace, pod})
			}
		}
	}
}

// touchEntries marks the cluster where a slice holds entry gateways, or control
// planes.
func (c *cluster) touchEntries(of Name, ch *Changes) {
	if _, ok := c.entryServices[of]; ok || of.Name == api.ControlPlaneName {
		ch.Clusters = true
	}
}

func (c *cluster) dropSlice(id Name, s *Slice, ch *Changes) {
	if s == nil {
		return
	}
	of := Name{s.Namespace, s.Service}
	ch.service(of)
	if s.Source != "" {
		c.imported.remove(of, id)
		c.from.remove(Name{Name: string(s.Source)}, id)
		c.own(s, -1, ch)
		return
	}
	c.touchEntries(of, ch)
	c.slicesOf.remove(of, id)
	for i := range s.Endpoints {
		if pod := s.Endpoints[i].Pod; pod != "" {
			at := Name{s.Namespace, pod}
			c.slicesAt.remove(at, id)
			ch.workload(c.Name, at)
		}
	}
}

func (c *cluster) addSlice(id Name, s *Slice, ch *Changes) {
	if s == nil {
		return
	}
	of := Name{s.Namespace, s.Service}
	ch.service(of)
	if s.Source != "" {
		c.imported.add(of, id, s)
		c.from.add(Name{Name: string(s.Source)}, id, s)
		c.own(s, 1, ch)
		return
	}
	c.touchEntries(of, ch)
	c.slicesOf.add(of, id, s)
	for i := range s.Endpoints {
		if pod := s.Endpoints[i].Pod; pod != "" {
			at := Name{s.Namespace, pod}
			c.slicesAt.add(at, id, s)
			ch.workload(c.Name, at)
		}
	}
}
