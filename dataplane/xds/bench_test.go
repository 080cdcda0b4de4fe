package xds

import (
	"fmt"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
)

// BenchmarkOneAssignment is one changed load assignment among 5,000 services.
func BenchmarkOneAssignment(b *testing.B) {
	c, err := New(Options{Conn: dial(b, "127.0.0.1:1"), Node: node(), Applier: newRecorder()})
	if err != nil {
		b.Fatal(err)
	}
	all := map[string][]*discoveryv3.Resource{}
	for i := range 5000 {
		name := fmt.Sprintf("outbound|80||service-%d.shop.svc.clusterset.local", i)
		for typeURL, m := range map[string]proto.Message{
			TypeCluster: edsCluster(name), TypeEndpoint: assignment(name), TypeListener: listener(b, name, name), TypeRoute: route(name),
		} {
			all[typeURL] = append(all[typeURL], wrap(b, "1", m))
		}
	}
	for _, typeURL := range Types() {
		c.accept(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL, Resources: all[typeURL]})
	}
	if !c.Status().Ready {
		b.Fatal("not ready")
	}
	one := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: TypeEndpoint, Resources: all[TypeEndpoint][:1]}
	b.ReportAllocs()
	for b.Loop() {
		if refused := c.accept(one); len(refused) > 0 {
			b.Fatal(refused)
		}
	}
}
