package ads_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/meshtest"
)

const (
	benchServices = 1000
	benchProxies  = 100
)

// shared returns the mesh of n services with endpoints in that third byte for
// the one numbered turn, sharing all other services with prev.
func shared(b *testing.B, prev *federation.Snapshot, n, turn, third int) *federation.Snapshot {
	b.Helper()
	if prev == nil {
		return meshtest.Snapshot(b, bigMesh(n, "0"))
	}
	one := meshtest.Snapshot(b, fmt.Sprintf("cluster east network=blue\nservice s%d.shop@east\n  port 80 http\n  vip east 10.96.%d.%d\n  endpoint east 10.1.%d.%d pod=p account=s mtls 80:8080\n",
		turn, turn/250, turn%250, third, turn%250))
	parts := federation.Parts{
		Services: map[federation.ServiceKey]*federation.Service{}, Workloads: map[federation.WorkloadKey]*federation.Workload{},
		Clusters: map[federation.ClusterName]*federation.Cluster{},
	}
	for svc := range prev.Services() {
		parts.Services[svc.Key] = svc
	}
	for svc := range one.Services() {
		parts.Services[svc.Key] = svc
	}
	for w := range prev.Workloads() {
		parts.Workloads[w.Key] = w
	}
	for _, c := range prev.Clusters() {
		parts.Clusters[c.Name] = c
	}
	return federation.NewSnapshot(parts)
}

// reader is a proxy that acknowledges and forgets.
func (b *bench) reader(t *testing.B, got chan<- string, all []string) {
	ctx, cancel := context.WithCancel(web().context(context.Background()))
	t.Cleanup(cancel)
	s, err := b.dial(t).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*discoveryv3.DeltaDiscoveryRequest{
		{TypeUrl: cds, Node: web().node()}, {TypeUrl: eds, ResourceNamesSubscribe: all}, {TypeUrl: lds},
	} {
		if err := s.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		for {
			m, err := s.Recv()
			if err != nil {
				return
			}
			_ = s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.TypeUrl, ResponseNonce: m.Nonce})
			select {
			case got <- m.TypeUrl:
			case <-ctx.Done():
				return
			}
		}
	}()
}

// BenchmarkEndpointChange is the time from a snapshot in which one endpoint of
// 1,000 services changed until the last of 100 proxies has read its load
// assignment, clients and server in one process.
func BenchmarkEndpointChange(t *testing.B) {
	b := start(t, nil)
	snapshot := shared(t, nil, benchServices, 0, 0)
	b.Update(snapshot)
	var all []string
	for i := range benchServices {
		all = append(all, fmt.Sprintf("outbound|80||s%d.shop.svc.cluster.local", i))
	}
	got := make(chan string, 16)
	began := time.Now()
	for range benchProxies {
		b.reader(t, got, all)
	}
	await(t, got, lds, benchProxies)
	initial := time.Since(began)
	pushes, bytes := value(t, b, "isthmus_xds_pushes_total"), value(t, b, "isthmus_xds_push_bytes_total")
	t.ResetTimer()
	for i := range t.N {
		snapshot = shared(t, snapshot, benchServices, i%benchServices, 1+i%200)
		b.Update(snapshot)
		await(t, got, eds, benchProxies)
	}
	t.StopTimer()
	n := float64(t.N)
	t.ReportMetric((value(t, b, "isthmus_xds_pushes_total")-pushes)/n, "pushes/op")
	t.ReportMetric((value(t, b, "isthmus_xds_push_bytes_total")-bytes)/n, "bytes/op")
	t.ReportMetric(float64(initial.Milliseconds()), "ms-initial-100-proxies")
}

// await reads until want responses of that type came.
func await(t *testing.B, got <-chan string, url string, want int) {
	t.Helper()
	deadline := time.After(time.Minute)
	for want > 0 {
		select {
		case m := <-got:
			if m == url {
				want--
			}
		case <-deadline:
			t.Fatalf("%d responses of %s missing", want, url)
		}
	}
}

// BenchmarkUpdate is the server's part alone: a snapshot with one changed
// endpoint, with one proxy connected.
func BenchmarkUpdate(t *testing.B) {
	b := start(t, nil)
	snapshot := shared(t, nil, benchServices, 0, 0)
	b.Update(snapshot)
	var next []*federation.Snapshot
	for i := range 100 {
		next = append(next, shared(t, snapshot, benchServices, i, 1+i))
	}
	got := make(chan string, 16)
	b.reader(t, got, nil)
	await(t, got, lds, 1)
	t.ResetTimer()
	for i := range t.N {
		b.Update(next[i%len(next)])
	}
}
