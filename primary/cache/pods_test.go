package cache_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/cache"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

const brokers = `
cluster east network=blue region=eu local read
cluster west network=green read gateways=192.0.2.7:15443
service mq.shop headless
  port 5672 tcp
  port 80 http
  export west 5672/tcp 80/http
  endpoint west 10.2.0.4 pod=mq-0 account=mq mtls 5672:5672 80:80
  endpoint west 10.2.0.5 pod=mq-1 account=mq mtls 5672:5672 80:80
  synthetic east west mq-0 240.241.0.1
  synthetic east west mq-1 240.241.0.2
workload east/shop/web-1 account=web
`

// A pod that comes, goes, or is no longer ready changes nothing of another's.
func TestOnePodDisturbsNoOther(t *testing.T) {
	f := follow(t, cache.Sidecar, brokers)
	const third = "  endpoint west 10.2.0.6 pod=mq-2 account=other mtls 5672:5672 80:80\n  synthetic east west mq-2 240.241.0.3\n"
	more := strings.Replace(brokers, "workload", third+"workload", 1)
	f.expect(more, "+cds outbound|5672|mq-2.west|mq.shop.svc.clusterset.local", "+cds outbound|80|mq-2.west|mq.shop.svc.clusterset.local",
		"+eds outbound|5672|mq-2.west|mq.shop.svc.clusterset.local", "+eds outbound|80|mq-2.west|mq.shop.svc.clusterset.local",
		"+lds outbound|5672|mq-2.west|mq.shop.svc.clusterset.local", "+lds outbound|80|mq-2.west|mq.shop.svc.clusterset.local",
		"+rds outbound|80|mq-2.west|mq.shop.svc.clusterset.local")
	f.expect(strings.Replace(more, "pod=mq-2 account=other mtls", "pod=mq-2 account=other mtls notready", 1))
	f.expect(strings.ReplaceAll(more, "10.2.0.6", "10.2.0.9")) // its own address is nothing to anybody here
	if got := f.becomes(strings.Replace(more, "192.0.2.7", "192.0.2.8", 1)); len(got) != 6 || slices.ContainsFunc(got, func(c string) bool { return !strings.HasPrefix(c, "~eds ") }) {
		t.Errorf("after their gateway moved: %v", got)
	}
	f.becomes(more)
	if got := f.becomes(brokers); len(got) != 7 || slices.ContainsFunc(got, func(c string) bool { return c[0] != '-' || !strings.Contains(c, "mq-2") }) {
		t.Errorf("changed: %v", got)
	}
}

// At the gateway of the pods' network a pod is its own too.
func TestOnePodAtTheGateway(t *testing.T) {
	mesh := strings.NewReplacer("cluster east network=blue", "cluster east network=green").Replace(brokers)
	f := follow(t, cache.EastWest, mesh)
	f.expect(strings.Replace(mesh, "pod=mq-1 account=mq mtls", "pod=mq-1 account=mq mtls notready", 1),
		"~eds p5672.mq.shop.sni.isthmus.internal", "~eds p80.mq.shop.sni.isthmus.internal")
	f.becomes(mesh)
	f.expect(strings.Replace(mesh, "10.2.0.5", "10.2.0.9", 1),
		"~eds p5672.mq.shop.sni.isthmus.internal", "~eds p80.mq.shop.sni.isthmus.internal",
		"~eds mq-1.west.pod.p5672.mq.shop.sni.isthmus.internal", "~eds mq-1.west.pod.p80.mq.shop.sni.isthmus.internal")
}

// A pod whose server name would be too long is left out and named; the others
// of its service are there, at both ends.
func TestPodNameTooLong(t *testing.T) {
	long, name := strings.Repeat("b", 63), strings.Repeat("s", 63)
	mesh := strings.NewReplacer("mq.shop", name+"."+long, "mq-1", strings.Repeat("p", 63), "west", "west-"+strings.Repeat("w", 40)).Replace(brokers)
	for kind, want := range map[cache.Kind]int{cache.Sidecar: 2, cache.EastWest: 4} {
		mesh := mesh
		if kind == cache.EastWest {
			mesh = strings.Replace(mesh, "cluster east network=blue", "cluster east network=green", 1)
		}
		f := follow(t, kind, mesh)
		count := 0
		for n := range f.member.State().Shared.All(resources.Endpoints) {
			if strings.Contains(n, long) {
				count++
			}
		}
		problem := f.cache.Problems()[federation.ServiceKey{Namespace: long, Name: name}]
		if count != want || !strings.Contains(problem, "server name too long") {
			t.Errorf("%s: %d load assignments, problem %q", kind, count, problem)
		}
	}
}

// A service all of whose pods have such names is told of in a few lines.
func TestManyNamesTooLong(t *testing.T) {
	long := strings.Repeat("b", 63)
	var pods strings.Builder
	for i := range 500 {
		fmt.Fprintf(&pods, "  endpoint west 10.2.%d.%d pod=p%s%d account=mq mtls 80:80\n  synthetic east west p%s%d 240.241.%d.%d\n",
			i/250, i%250+1, long[:55], i, long[:55], i, i/250, i%250+1)
	}
	mesh := "cluster east network=blue local read\ncluster west-" + strings.Repeat("w", 50) + " network=green read gateways=192.0.2.7:15443\n" +
		"service " + strings.Repeat("s", 63) + "." + long + " headless\n  port 80 tcp\n  export west 80/tcp\n" + pods.String()
	mesh = strings.ReplaceAll(mesh, " west ", " west-"+strings.Repeat("w", 50)+" ")
	f := follow(t, cache.Sidecar, mesh)
	for _, problem := range f.cache.Problems() {
		if len(problem) > 4096 || !strings.Contains(problem, "and 495 more") {
			t.Errorf("%d bytes: %.300s", len(problem), problem)
		}
	}
	if len(f.cache.Problems()) != 1 {
		t.Error("no problem")
	}
}
