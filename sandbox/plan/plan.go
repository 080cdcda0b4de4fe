// Package plan says what a sandbox consists of: clusters, their address ranges,
// the files in its folder, and what its programs say to each other.
package plan

import (
	"fmt"
	"net/netip"
	"regexp"
)

// MaxClusters bounds how many clusters a sandbox has. Each costs about 350 MB.
const MaxClusters = 8

// A Named cluster is one that somebody asks for.
type Named struct {
	Name    string // a DNS label of at most 30 characters
	Network string // clusters of one network reach each other's pods; empty means its own
}

// Plan is a sandbox: its clusters, and through them every address.
type Plan struct {
	Clusters []Cluster `json:"clusters"`
}

// A Cluster has one node. All its addresses are private to the sandbox.
type Cluster struct {
	Name          string       `json:"name"`
	Network       string       `json:"network"`
	Index         int          `json:"index"` // from 1
	NodeName      string       `json:"nodeName"`
	NodeAddress   netip.Addr   `json:"nodeAddress"`   // on the underlay
	LoadBalancers netip.Prefix `json:"loadBalancers"` // on the underlay; addresses of Services of type LoadBalancer
	Pods          netip.Prefix `json:"pods"`
	Services      netip.Prefix `json:"services"`
	DNS           netip.Addr   `json:"dns"` // ClusterIP of CoreDNS
}

// Underlay is the network between nodes; the launcher has its first address.
var Underlay = netip.MustParsePrefix("172.30.0.1/16")

var label = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$`)

// New lays out a sandbox. Equal arguments give equal addresses.
func New(clusters []Named) (Plan, error) {
	if len(clusters) == 0 || len(clusters) > MaxClusters {
		return Plan{}, fmt.Errorf("a sandbox has 1 to %d clusters, not %d", MaxClusters, len(clusters))
	}
	var p Plan
	for i, c := range clusters {
		if !label.MatchString(c.Name) {
			return Plan{}, fmt.Errorf("cluster name %q: want a DNS label of at most 30 characters that begins with a letter", c.Name)
		}
		if _, ok := p.Cluster(c.Name); ok {
			return Plan{}, fmt.Errorf("cluster %s is named twice", c.Name)
		}
		if c.Network == "" {
			c.Network = c.Name
		}
		p.Clusters = append(p.Clusters, layout(c, i+1))
	}
	return p, nil
}

func layout(c Named, index int) Cluster {
	i := byte(index)
	return Cluster{
		Name: c.Name, Network: c.Network, Index: index, NodeName: c.Name + "-node",
		NodeAddress:   netip.AddrFrom4([4]byte{172, 30, 0, 10 + i}),
		LoadBalancers: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, i, 0}), 24),
		Pods:          netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 10 * i, 0, 0}), 16),
		Services:      netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 10*i + 1, 0, 0}), 16),
		DNS:           netip.AddrFrom4([4]byte{10, 10*i + 1, 0, 10}),
	}
}

// Cluster returns the cluster with that name.
func (p Plan) Cluster(name string) (Cluster, bool) {
	for _, c := range p.Clusters {
		if c.Name == name {
			return c, true
		}
	}
	return Cluster{}, false
}

// Neighbours returns the other clusters on c's network.
func (p Plan) Neighbours(c Cluster) []Cluster {
	var out []Cluster
	for _, other := range p.Clusters {
		if other.Network == c.Network && other.Name != c.Name {
			out = append(out, other)
		}
	}
	return out
}

// APIServer is host:port of the API server as everything inside reaches it.
func (c Cluster) APIServer() string { return netip.AddrPortFrom(c.NodeAddress, 6443).String() }

// PodGateway is the address that pods send everything to. It is on the node.
func (c Cluster) PodGateway() netip.Addr { return c.Pods.Addr().Next() }
