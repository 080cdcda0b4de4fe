package ads_test

import (
	"fmt"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/internal/meshtest"
)

// What a node says of itself ends up in logs, statuses and keys: none of it may
// be long.
func TestLongWords(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	long := strings.Repeat("x", 300)
	for name, change := range map[string]func(*corev3.Node){
		"id":      func(n *corev3.Node) { n.Id = strings.Repeat("x", 2000) },
		"zone":    func(n *corev3.Node) { n.Locality = &corev3.Locality{Zone: long} },
		"version": func(n *corev3.Node) { n.Metadata.Fields["VERSION"] = structpb.NewStringValue(long) },
	} {
		t.Run(name, func(t *testing.T) {
			node := web().node()
			change(node)
			c := b.delta(t, web())
			c.said = true
			c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, Node: node})
			if got := c.end(); got != codes.InvalidArgument {
				t.Errorf("ended with %v", got)
			}
		})
	}
}

// A pod that the mesh does not know yet may say its zone, but none that nobody
// is in: each zone costs the server a view of the whole mesh.
func TestInventedZones(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	var streams []*raw
	for i := range 5 {
		w := who{namespace: "shop", account: "new", cluster: "east", pod: fmt.Sprint("new-", i)}
		node := w.node()
		node.Locality = &corev3.Locality{Zone: fmt.Sprint("zone-", i)}
		c := b.delta(t, w)
		c.said = true
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, Node: node})
		c.expect(cds)
		streams = append(streams, c)
	}
	if got := value(t, b, "isthmus_xds_views"); got != 1 {
		t.Errorf("%v views for %d clients of one kind", got, len(streams))
	}
}

// A client that repeats its refusal is not written down each time.
func TestRepeatedRefusals(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	c := b.delta(t, web())
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	m := c.receive()
	for range 20 {
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, ResponseNonce: m.Nonce, ErrorDetail: &rpcstatus.Status{Message: "no"}})
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: lds})
	c.expect(lds) // all of the above were read before
	if got := value(t, b, "isthmus_xds_nacks_total"); got != 1 {
		t.Errorf("%v refusals counted", got)
	}
}
