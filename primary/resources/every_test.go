package resources_test

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/meshtest"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

const mesh = `
cluster east network=blue region=eu local read gateways=192.0.2.1:15443 inside=10.1.0.0/16,fd00:1::/64 shutout=10.1.0.66,fd00:1::66
cluster west network=green region=us read gateways=192.0.2.7:15443
service reviews.shop
  port 9080 http
  port 9081 tcp
  port 9082 http2
  port 9083 auto
  vip east 10.96.0.7
  vip east fd00::7
  export east 9080/http
  export west 9080/http 9081/tcp 9082/http2 9083/auto
  endpoint east 10.1.0.4 pod=reviews-1 zone=eu-1 account=reviews mtls 9080:8080
  endpoint east fd00:1::5 pod=reviews-2 zone=eu-2 account=other mtls 9080:8080
  endpoint west 10.2.0.4 pod=reviews-1 account=reviews mtls 9080:8080 9081:9081 9082:9082 9083:9083
service near.shop@east
  port 80 http
  vip east 10.96.0.8
  endpoint east 10.1.0.9 pod=plain 80:8080
service db.shop headless
  port 5432 tcp
  export east 5432/tcp
  export west 5432/tcp
  endpoint east 10.1.0.5 pod=db-0 account=db mtls 5432:15432
  endpoint west 10.2.0.5 pod=db-0 account=db mtls 5432:15432
  synthetic east west db-0 240.241.0.7
workload east/shop/web-1 account=web 8080/http 8081/tcp 8082/auto 8083/http2 mtls:8081=strict mtls:9999=disable
workload east/shop/web-2 account=web mtls=strict 8080/http
workload east/shop/chosen account=web 8080/http 8081/auto from:8080=east,west noentry:8080 from:8081=east
`

// every returns every kind of resource that there is, by a name for its golden.
func every(t testing.TB) map[string]*resources.Resource {
	t.Helper()
	s := meshtest.Snapshot(t, mesh)
	svc := s.Service(federation.ServiceKey{Namespace: "shop", Name: "reviews"})
	out := map[string]*resources.Resource{}
	add := func(name string, r *resources.Resource, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[name] = r
	}
	view := resources.View{Cluster: "east", Network: "blue", MTLS: true}
	for _, port := range svc.Ports {
		key := resources.OutboundKey{Service: svc.Key, Port: port.Number}
		l, err := resources.NewListener(key, port.Protocol, resources.ListenerAddrs(svc, port.Number, "east"))
		add("listener-"+port.Name, l, err)
		c, err := resources.NewCluster(svc, port, resources.ClusterView{Distant: true, MTLS: true})
		add("cluster-"+port.Name, c, err)
		e, err := resources.NewEndpoints(s, svc, port.Number, view)
		add("endpoints-"+port.Name, e, err)
	}
	near := s.Service(federation.ServiceKey{Cluster: "east", Namespace: "shop", Name: "near"})
	c, err := resources.NewCluster(near, near.Ports[0], resources.ClusterView{MTLS: true})
	add("cluster-without-identity", c, err)
	r, err := resources.NewRoute(resources.OutboundKey{Service: svc.Key, Port: 9080})
	add("route", r, err)
	o, err := resources.NewOutbound()
	add("outbound", o, err)
	p, err := resources.NewPassthrough()
	add("passthrough", p, err)
	for _, pod := range []string{"web-1", "web-2", "chosen"} {
		in, err := resources.NewInbound(resources.InboundOf(s.Workload(federation.WorkloadKey{Cluster: "east", Namespace: "shop", Name: pod}), s.Cluster("east")))
		add("inbound-"+pod, in, err)
	}
	ic, err := resources.NewInboundCluster(8080, true)
	add("inbound-cluster-http", ic, err)
	ia, err := resources.NewInboundCluster(0, false)
	add("inbound-cluster-all", ia, err)
	g, err := resources.NewEastWest()
	add("gateway-listener", g, err)
	gc, err := resources.NewGatewayCluster(svc.Key, 9080)
	add("gateway-cluster", gc, err)
	ge, err := resources.NewGatewayEndpoints(s, svc, 9080, "green")
	add("gateway-endpoints", ge, err)
	everyPod(s, add)
	entry, err := resources.NewEntry(s.Cluster("east").Inside, s.Cluster("east").ShutOut)
	add("entry-listener", entry, err)
	closed, err := resources.NewEntry(nil, nil)
	add("entry-listener-closed", closed, err)
	ec, err := resources.NewEntryCluster(svc, 9080, 20001)
	add("entry-cluster", ec, err)
	return out
}

// everyPod adds what single pods of a headless service have.
func everyPod(s *federation.Snapshot, add func(string, *resources.Resource, error)) {
	db := s.Service(federation.ServiceKey{Namespace: "shop", Name: "db"})
	view := resources.View{Cluster: "east", Network: "blue", MTLS: true}
	for _, p := range resources.Pods(s, db, 5432, view) {
		name := "pod-near"
		if p.Distant {
			name = "pod-distant"
		}
		c, err := resources.NewPodCluster(db, db.Ports[0], p, true)
		add(name+"-cluster", c, err)
		e, err := resources.NewPodEndpoints(s, db, p, view)
		add(name+"-endpoints", e, err)
	}
	for _, p := range resources.GatewayPods(s, db, 5432, "blue") {
		c, err := resources.NewGatewayPodCluster(db.Key, p)
		add("gateway-pod-cluster", c, err)
		e, err := resources.NewGatewayPodEndpoints(db.Key, p)
		add("gateway-pod-endpoints", e, err)
	}
}
