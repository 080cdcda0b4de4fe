package ingest

import (
	"cmp"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation"
)

// policies are the PeerAuthentications of all served clusters, in Istio's
// order: of several at one level the oldest counts.
type policies struct {
	mesh      map[federation.ClusterName]*Policy
	namespace map[scope]*Policy
	workload  map[scope][]*Policy // oldest first
	problems  []federation.Problem
}

type scope struct {
	cluster   federation.ClusterName
	namespace string
}

func newPolicies(in *Inputs) *policies {
	p := &policies{mesh: map[federation.ClusterName]*Policy{}, namespace: map[scope]*Policy{}, workload: map[scope][]*Policy{}}
	for _, c := range in.clusters {
		if c.Served {
			p.addCluster(in, c)
		}
	}
	return p
}

func (p *policies) addCluster(in *Inputs, c *cluster) {
	sorted := slices.SortedFunc(maps.Values(c.policies), func(a, b *Policy) int {
		return cmp.Or(a.Since.Compare(b.Since), a.Name.Compare(b.Name))
	})
	for _, policy := range sorted {
		at := scope{c.Name, policy.Namespace}
		switch {
		case policy.Bad != "":
			p.problem(c, policy, "InvalidPolicy", policy.Bad)
		case len(policy.Selector) > 0 && policy.Namespace == in.Namespace:
			p.problem(c, policy, "SelectorIgnored", "a policy of the system namespace holds for the whole mesh and takes no selector")
		case len(policy.Selector) > 0:
			p.workload[at] = append(p.workload[at], policy)
		case policy.Namespace == in.Namespace:
			p.add(c, policy, p.mesh[c.Name], func() { p.mesh[c.Name] = policy })
		default:
			p.add(c, policy, p.namespace[at], func() { p.namespace[at] = policy })
		}
	}
}

func (p *policies) add(c *cluster, policy, older *Policy, store func()) {
	if len(policy.Ports) > 0 {
		p.problem(c, policy, "PortLevelIgnored", "portLevelMtls counts only beside a selector")
	}
	if older != nil {
		p.problem(c, policy, "ShadowedPolicy", "the older policy "+older.Name.Name+" holds for the same workloads, and the oldest counts")
		return
	}
	store()
}

func (p *policies) problem(c *cluster, policy *Policy, reason, message string) {
	p.problems = append(p.problems, federation.Problem{
		Object: federation.ObjectRef{Cluster: c.Name, Kind: kindPolicy, Namespace: policy.Namespace, Name: policy.Name.Name},
		Reason: reason, Message: message,
	})
}

// modes returns the pod's mode and the ports whose mode differs from it.
func (p *policies) modes(c *cluster, pod *Pod) (federation.MTLSMode, []federation.PortMode) {
	at := scope{c.Name, pod.Namespace}
	general := federation.MTLSPermissive
	for _, policy := range []*Policy{p.mesh[c.Name], p.namespace[at]} {
		general = over(general, policy)
	}
	i := slices.IndexFunc(p.workload[at], func(policy *Policy) bool { return selects(policy.Selector, pod.Labels) })
	if i < 0 {
		return general, nil
	}
	policy := p.workload[at][i]
	general = over(general, policy)
	var ports []federation.PortMode
	for _, port := range slices.Sorted(maps.Keys(policy.Ports)) {
		if m := of(general, policy.Ports[port]); m != general {
			ports = append(ports, federation.PortMode{Port: uint16(port), Mode: m})
		}
	}
	return general, ports
}

func over(general federation.MTLSMode, policy *Policy) federation.MTLSMode {
	if policy == nil {
		return general
	}
	return of(general, policy.Mode)
}

func of(general federation.MTLSMode, m Mode) federation.MTLSMode {
	switch m {
	case ModeDisable:
		return federation.MTLSDisable
	case ModePermissive:
		return federation.MTLSPermissive
	case ModeStrict:
		return federation.MTLSStrict
	case ModeUnset:
	}
	return general
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}
