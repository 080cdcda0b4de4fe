package cache_test

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/meshtest"
	"github.com/isthmus-mesh/isthmus/primary/cache"
)

// Two services with one address: one has the listener, the other is told why it
// has none, for as long as that is so.
func TestOneAddressTwoServices(t *testing.T) {
	const mesh = `
cluster east network=blue local read
service a.shop@east
  port 80 http
  vip east 10.96.0.7
  endpoint east 10.1.0.4 pod=a-1 account=a mtls 80:8080
service b.shop@east
  port 80 http
  vip east VIP
  endpoint east 10.1.0.5 pod=b-1 account=b mtls 80:8080
`
	c := cache.New(nil)
	m := c.Join(cache.Proxy{Group: cache.Group{Cluster: "east", Network: "blue", MTLS: true}})
	defer m.Close()
	b := federation.ServiceKey{Cluster: "east", Namespace: "shop", Name: "b"}
	c.Update(meshtest.Snapshot(t, strings.Replace(mesh, "VIP", "10.96.0.7", 1)))
	if got := c.Problems(); len(got) != 1 || !strings.Contains(got[b], "10.96.0.7:80 is the address of outbound|80||a.shop") {
		t.Errorf("problems %v", got)
	}
	c.Update(meshtest.Snapshot(t, strings.Replace(mesh, "VIP", "10.96.0.8", 1)))
	if got := c.Problems(); len(got) != 0 {
		t.Errorf("problems remain: %v", got)
	}
}
