package ads

import (
	"errors"
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/cache"
	"github.com/isthmus-mesh/isthmus/trust"
)

// Caller is who opened a stream, as its certificate or token proves.
type Caller struct {
	ID      trust.ID
	Cluster string // of the clusterset; "" where the proof does not say
	Pod     string // "" where the proof does not say
}

// node is what a client says of itself, after it was held against its proof.
type node struct {
	id      string
	caller  Caller
	kind    cache.Kind
	cluster federation.ClusterName
	pod     string
	network federation.NetworkName // as claimed; used where nothing better is known
	zone    string
	mtls    bool
	version string
}

// Limits in bytes on what a node says of itself: it is kept, logged and shown.
const (
	maxNodeID = 1024
	maxWord   = 253 // the longest name in Kubernetes
)

// errIdentity is wrapped where a client claims to be who it is not.
var errIdentity = errors.New("node does not agree with the identity that was proved")

// newNode holds a client's own words against its proof: namespace, account and
// cluster must agree, and so must the pod where the proof names one. What the
// client leaves out is taken from the proof.
func newNode(n *corev3.Node, caller Caller) (*node, error) {
	said := func(key string) string { return n.GetMetadata().GetFields()[key].GetStringValue() }
	if len(n.GetId()) > maxNodeID {
		return nil, fmt.Errorf("%w: node id of %d bytes, at most %d", errRequest, len(n.GetId()), maxNodeID)
	}
	for _, words := range []string{n.GetLocality().GetZone(), said("POD_NAME"), said("NETWORK"), said("VERSION")} {
		if len(words) > maxWord {
			return nil, fmt.Errorf("%w: %.20q... of the node has %d bytes, at most %d", errRequest, words, len(words), maxWord)
		}
	}
	proved := []struct{ key, value string }{
		{"NAMESPACE", caller.ID.Namespace()},
		{"SERVICE_ACCOUNT", caller.ID.ServiceAccount()},
		{"CLUSTER_ID", caller.Cluster},
		{"POD_NAME", caller.Pod},
	}
	for _, p := range proved {
		if claim := said(p.key); claim != "" && p.value != "" && claim != p.value {
			return nil, fmt.Errorf("%w: %s is %q, proved %q", errIdentity, p.key, claim, p.value)
		}
	}
	out := &node{
		id: n.GetId(), caller: caller,
		cluster: federation.ClusterName(caller.Cluster),
		pod:     caller.Pod,
		network: federation.NetworkName(said("NETWORK")),
		zone:    n.GetLocality().GetZone(),
		version: said("VERSION"),
		mtls:    speaks(said("SPEAKS"), "mtls"),
	}
	if caller.Cluster == "" {
		return nil, fmt.Errorf("%w: the proof names no cluster", errIdentity)
	}
	if out.pod == "" {
		out.pod = said("POD_NAME")
	}
	return out, out.setKind(said("PROXY_TYPE"))
}

// setKind allows the configuration of a gateway to gateways only.
func (n *node) setKind(kind string) error {
	switch kind {
	case "", "sidecar":
		return nil
	case api.GatewayEastWest:
		if n.caller.ID.Namespace() != api.SystemNamespace || n.caller.ID.ServiceAccount() != api.EastWestName {
			return fmt.Errorf("%w: %s is no east-west gateway", errIdentity, n.caller.ID)
		}
		n.kind = cache.EastWest
		return nil
	case api.GatewayEntry:
		if n.caller.ID.Namespace() != api.SystemNamespace || n.caller.ID.ServiceAccount() != api.EntryName {
			return fmt.Errorf("%w: %s is no entry gateway", errIdentity, n.caller.ID)
		}
		n.kind = cache.Entry
		return nil
	}
	return fmt.Errorf("%w: unknown PROXY_TYPE %q", errRequest, kind)
}

func speaks(list, what string) bool {
	for part := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(part) == what {
			return true
		}
	}
	return false
}

// inhabited drops a claimed zone in which s has no pod of the cluster. It would
// decide nothing, and cost a view of the mesh of its own.
func (n *node) inhabited(s *federation.Snapshot) {
	for w := range s.Workloads() {
		if w.Key.Cluster == n.cluster && w.Locality.Zone == n.zone {
			return
		}
	}
	n.zone = ""
}

// proxy returns the node's place in snapshot s. What the mesh knows of its pod
// and cluster counts for more than what it says.
func (n *node) proxy(s *federation.Snapshot) cache.Proxy {
	key := federation.WorkloadKey{Cluster: n.cluster, Namespace: n.caller.ID.Namespace(), Name: n.pod}
	network, zone := n.network, n.zone
	if c := s.Cluster(n.cluster); c != nil {
		network = c.Network
	}
	if w := s.Workload(key); w != nil && w.Account == n.caller.ID {
		network, zone = w.Network, w.Locality.Zone
	}
	return cache.Proxy{
		Group:    cache.Group{Kind: n.kind, Cluster: n.cluster, Network: network, Zone: zone, MTLS: n.mtls || n.kind != cache.Sidecar},
		Workload: key,
		Identity: n.caller.ID.String(),
	}
}
