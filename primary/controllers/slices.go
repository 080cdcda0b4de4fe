package controllers

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
)

// sliceBuilder makes the slices of one import.
type sliceBuilder struct {
	s     *federation.Snapshot
	local federation.ClusterName
	svc   *federation.Service
	nums  given

	firsts map[uint16]stand // as first gave them
}

// content is what one slice holds.
type content struct {
	family    discoveryv1.AddressType
	endpoints []discoveryv1.Endpoint
	ports     []discoveryv1.EndpointPort
}

// slices returns the slices of one exporting cluster: one, or several where
// endpoints differ in their port numbers, families or readiness or are more than
// a slice holds. There is always one, which is the checkpoint.
func (b *sliceBuilder) slices(export *federation.Export) []*discoveryv1.EndpointSlice {
	var contents []content
	remembered := checkpoint(b.s, b.svc, export, b.near(export))
	switch {
	case !b.far(export):
		contents = b.podContents(b.near(export), b.podEndpoint)
	case b.svc.Headless:
		pods := b.pods(export.Cluster)
		remembered.Pods = checkpointPods(pods)
		contents = b.podContents(pods, b.syntheticEndpoint)
	default:
		contents = b.entryContents(export)
	}
	text, err := remembered.Encode()
	if err != nil {
		text = "" // too much for an annotation: the slice is still good for its addresses
	}
	return b.wrap(export, contents, text)
}

// refreshed returns the slices of a cluster that is only remembered: what was
// remembered stays, and the entry gateway's addresses are today's. It returns
// none where there is nothing to go by.
func (b *sliceBuilder) refreshed(export *federation.Export, have []discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	if !export.Checkpoint || !b.far(export) || b.svc.Headless {
		return nil
	}
	for i := range have {
		if text := have[i].Annotations[api.AnnotationCheckpoint]; text != "" && sourceOf(&have[i]) == export.Cluster {
			return b.wrap(export, b.entryContents(export), text)
		}
	}
	return nil
}

func (b *sliceBuilder) wrap(export *federation.Export, contents []content, text string) []*discoveryv1.EndpointSlice {
	annotations := map[string]string{}
	if text != "" {
		annotations[api.AnnotationCheckpoint] = text
	}
	if ports := b.entryPorts(export); len(ports) > 0 {
		annotations[api.AnnotationEntryPorts] = formatEntryPorts(ports)
	}
	if len(contents) == 0 {
		contents = []content{{family: discoveryv1.AddressTypeIPv4}}
	}
	var out []*discoveryv1.EndpointSlice
	for _, c := range contents {
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: b.svc.Key.Namespace,
				Name:      sliceName(b.svc.Key, export.Cluster, len(out)),
				Labels: map[string]string{
					labelServiceName:             b.svc.Key.Name,
					labelSourceCluster:           string(export.Cluster),
					discoveryv1.LabelManagedBy:   api.ManagedBy,
					discoveryv1.LabelServiceName: derivedName(keyOf(b.svc)),
				},
				Annotations: maps.Clone(annotations),
			},
			AddressType: c.family, Endpoints: c.endpoints, Ports: c.ports,
		}
		if b.svc.Headless {
			slice.Labels[corev1.IsHeadlessService] = ""
		}
		if slice.Endpoints == nil {
			slice.Endpoints = []discoveryv1.Endpoint{}
		}
		if slice.Ports == nil {
			slice.Ports = []discoveryv1.EndpointPort{}
		}
		out = append(out, slice)
	}
	return out
}

// network is that of the local cluster.
func (b *sliceBuilder) network() federation.NetworkName { return b.s.Cluster(b.local).Network }

// far reports whether an export is on another network.
func (b *sliceBuilder) far(export *federation.Export) bool {
	c := b.s.Cluster(export.Cluster)
	return c != nil && c.Network != b.network()
}

// near returns the endpoints of an export whose addresses are good here.
func (b *sliceBuilder) near(export *federation.Export) []federation.Endpoint {
	var out []federation.Endpoint
	for _, e := range b.svc.Endpoints {
		if e.Cluster == export.Cluster && e.Network == b.network() {
			out = append(out, e)
		}
	}
	return out
}

// podContents holds pods as endpoint makes them.
func (b *sliceBuilder) podContents(pods []federation.Endpoint, endpoint func(*federation.Endpoint) discoveryv1.Endpoint) []content {
	var out []content
	for _, group := range groupEndpoints(pods) {
		c := content{family: addressType(group), ports: slicePorts(b.svc, group)}
		for i := range group {
			c.endpoints = append(c.endpoints, endpoint(&group[i]))
		}
		out = append(out, c)
	}
	return out
}

// pods returns the pods with a sidecar of a headless export on another network
// that have a synthetic address, each once, at that address.
func (b *sliceBuilder) pods(cluster federation.ClusterName) []federation.Endpoint {
	var out []federation.Endpoint
	for _, e := range farPods(b.svc, cluster) {
		addr, ok := b.nums.Synthetic[podOf{cluster, e.Pod}]
		if !ok {
			continue
		}
		if at, known := b.svc.SyntheticFor(b.local, &e); e.Health == federation.Ready && (!known || at != addr) {
			e.Health = federation.NotReady // no sidecar has its listener yet
		}
		e.Addr, e.Others = addr, nil
		out = append(out, e)
	}
	return out
}

// farPods returns the pods of a cluster that a gateway passes on one by one, each
// once: one with addresses of both families has two endpoints.
func farPods(svc *federation.Service, cluster federation.ClusterName) []federation.Endpoint {
	var out []federation.Endpoint
	known := map[string]bool{}
	for _, e := range svc.Endpoints {
		if e.Cluster == cluster && e.Tunnel == federation.TunnelMTLS && e.Pod != "" && !e.Account.IsZero() && !known[e.Pod] {
			known[e.Pod] = true
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b federation.Endpoint) int { return a.Compare(&b) })
	return out
}

func checkpointPods(pods []federation.Endpoint) []federation.CheckpointPod {
	var out []federation.CheckpointPod
	for _, e := range pods {
		out = append(out, federation.CheckpointPod{Name: e.Pod, Account: e.Account})
	}
	slices.SortFunc(out, func(a, b federation.CheckpointPod) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

func (b *sliceBuilder) syntheticEndpoint(e *federation.Endpoint) discoveryv1.Endpoint {
	out := sliceEndpoint(e)
	out.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: b.svc.Key.Namespace, Name: e.Pod}
	return out
}

// families splits addresses into those of each family, without the empty ones.
func families(addrs []netip.Addr) map[discoveryv1.AddressType][]netip.Addr {
	out := map[discoveryv1.AddressType][]netip.Addr{}
	for _, a := range addrs {
		family := discoveryv1.AddressTypeIPv4
		if a.Is6() {
			family = discoveryv1.AddressTypeIPv6
		}
		out[family] = append(out[family], a)
	}
	return out
}
