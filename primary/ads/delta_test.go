package ads_test

import (
	"slices"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/isthmus-mesh/isthmus/internal/meshtest"
)

const twoClusters = `
cluster east network=blue region=eu local read gateways=192.0.2.1:15443
cluster west network=green region=eu read gateways=192.0.2.7:15443
service reviews.shop@east
  port 9080 http
  vip east 10.96.0.7
  endpoint east 10.1.0.4 pod=reviews-1 account=reviews mtls 9080:9080
service ratings.shop
  port 9081 tcp
  vip east 10.96.0.8
  export west 9081/tcp
  endpoint west 10.2.0.4 pod=ratings-1 account=ratings mtls 9081:9080
workload east/shop/web-1 account=web 8080/http
`

const (
	reviews = "outbound|9080||reviews.shop.svc.cluster.local"
	ratings = "outbound|9081||ratings.shop.svc.clusterset.local"
)

// A sidecar that asks for everything is sent it in order, and then nothing.
func TestDeltaSendsInOrder(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	c := b.delta(t, web())
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: lds})
	clusters := c.receive()
	want := []string{"inbound", "inbound|8080||", reviews, ratings, "passthrough"}
	slices.Sort(want)
	if got := names(clusters); clusters.TypeUrl != cds || !slices.Equal(got, want) {
		t.Fatalf("first was %s %v, want %v", clusters.TypeUrl, got, want)
	}
	c.ack(clusters)
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{reviews, ratings}})
	if got := names(c.expect(eds)); !slices.Equal(got, []string{reviews, ratings}) {
		t.Fatalf("load assignments %v", got)
	}
	if got := names(c.expect(lds)); len(got) != 4 {
		t.Fatalf("listeners %v", got)
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: rds, ResourceNamesSubscribe: []string{reviews}})
	c.expect(rds)
	c.silence()
	p := b.Proxies()
	if len(p) != 1 || !p[0].Types[0].Synced || p[0].Types[0].Acked != 5 || p[0].Pod != "web-1" {
		t.Fatalf("status: %+v", p)
	}
}

// A refused resource is held until it changes; the others are delivered.
func TestDeltaHoldsWhatIsRefused(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	c := b.delta(t, web())
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	m := c.receive()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, ResponseNonce: m.Nonce, ErrorDetail: &rpcstatus.Status{Code: 3, Message: "cluster " + ratings + ": no"}})
	c.silence()
	p := b.Proxies()[0].Types[0]
	if len(p.Refused) != 1 || p.Refused[ratings].Error == "" || p.Acked != 4 {
		t.Fatalf("status: %+v", p)
	}
}
