package ads_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/isthmus-mesh/isthmus/internal/meshtest"
	"github.com/isthmus-mesh/isthmus/primary/ads"
)

// bigMesh has n services with an endpoint each, and the pods of web.
func bigMesh(n int, third string) string {
	var b strings.Builder
	b.WriteString("cluster east network=blue region=eu local read\nworkload east/shop/web-1 account=web 8080/http\n")
	for i := range n {
		fmt.Fprintf(&b, "service s%d.shop@east\n  port 80 http\n  vip east 10.96.%d.%d\n  endpoint east 10.1.%s.%d pod=p account=s mtls 80:8080\n", i, i/250, i%250, third, i%250)
	}
	return b.String()
}

// eventually waits for a condition that no channel tells of.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

// A client that never reads is cut; others are served at once all the while.
func TestClientThatDoesNotRead(t *testing.T) {
	b := start(t, func(o *ads.Options) { o.SendTimeout, o.AnswerTimeout = time.Second, 6*time.Second })
	b.Update(meshtest.Snapshot(t, bigMesh(300, "0")))
	ctx, cancel := context.WithCancel(web().context(context.Background()))
	defer cancel()
	stuck, err := b.dial(t).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stuck.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, Node: web().node()}); err != nil {
		t.Fatal(err)
	}
	c := b.delta(t, web())
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{"outbound|80||s0.shop.svc.cluster.local"}})
	c.expect(eds)
	eventually(t, "two clients", func() bool { return len(b.Proxies()) == 2 })
	for i := range 5 {
		b.Update(meshtest.Snapshot(t, bigMesh(300, fmt.Sprint(i+1))))
		c.expect(eds)
	}
	eventually(t, "the client that does not read is cut", func() bool { return len(b.Proxies()) == 1 })
	if got := value(t, b, "isthmus_xds_cut_total"); got != 1 {
		t.Errorf("%v cut", got)
	}
}

// A client that reads and never answers is cut too, in the end.
func TestClientThatDoesNotAnswer(t *testing.T) {
	b := start(t, func(o *ads.Options) { o.AnswerTimeout = 200 * time.Millisecond })
	b.Update(meshtest.Snapshot(t, twoClusters))
	c := b.delta(t, web())
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	c.receive()
	if got := c.end(); got != codes.DeadlineExceeded {
		t.Errorf("ended with %v", got)
	}
}

// A drained server lets go of its clients and takes no more; the metrics agree.
func TestDrain(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	c := settledSidecar(t, b)
	if got := value(t, b, "isthmus_xds_connected_proxies"); got != 1 {
		t.Errorf("%v connected", got)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if got := c.end(); got != codes.Unavailable {
		t.Errorf("ended with %v", got)
	}
	late := b.delta(t, web())
	late.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	if got := late.end(); got != codes.Unavailable {
		t.Errorf("a late one ended with %v", got)
	}
	eventually(t, "nobody connected", func() bool { return value(t, b, "isthmus_xds_connected_proxies") == 0 })
	if value(t, b, "isthmus_xds_pushes_total") < 4 || value(t, b, "isthmus_xds_push_bytes_total") < 1000 {
		t.Error("pushes were not counted")
	}
}

// Run drains when its context ends.
func TestRun(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	c := settledSidecar(t, b)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	c.end()
}

// A fault in one stream ends that stream.
func TestPanicEndsOneStream(t *testing.T) {
	b := start(t, func(o *ads.Options) {
		o.Authenticate = func(ctx context.Context) (ads.Caller, error) {
			caller, err := authenticate(ctx)
			if caller.Pod == "bad" {
				panic("authenticate")
			}
			return caller, err
		}
	})
	b.Update(meshtest.Snapshot(t, twoClusters))
	good := settledSidecar(t, b)
	bad := b.delta(t, who{namespace: "shop", account: "web", cluster: "east", pod: "bad"})
	bad.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	if got := bad.end(); got != codes.Internal {
		t.Errorf("ended with %v", got)
	}
	good.silence()
}

// A proxy whose network changes connects again, to be served anew.
func TestNetworkChanges(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	c := settledSidecar(t, b)
	b.Update(meshtest.Snapshot(t, strings.Replace(twoClusters, "east network=blue", "east network=red", 1)))
	deadline := time.After(patience)
	for {
		select {
		case <-c.in: // what changed before the end
			continue
		case err := <-c.ended:
			if errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		case <-deadline:
			t.Error("the stream goes on")
		}
		break
	}
	again := b.delta(t, web())
	again.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	again.expect(cds)
	if got := b.Proxies(); got[len(got)-1].Network != "red" {
		t.Errorf("served as of network %s", got[len(got)-1].Network)
	}
}

// One service that cannot be expressed is left out; the others are served.
func TestInvalidServiceIsLeftOut(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, bigMesh(50, "0")+
		"service Bad_Name.shop@east\n  port 80 http\n  vip east 10.97.0.1\n  endpoint east 10.1.9.9 pod=p account=s mtls 80:8080\n"+
		"service zero.shop@east\n  port 0 http\n  port 81 tcp\n  vip east 10.97.0.2\n"))
	c := b.delta(t, web())
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	if got := names(c.expect(cds)); len(got) != 50+1+3 {
		t.Errorf("%d xds clusters: %v", len(got), got)
	}
	if got := b.Problems(); len(got) != 2 {
		t.Errorf("problems: %v", got)
	}
}

// Streams leave nothing behind: no goroutine, no member, no group.
func TestStreamsLeaveNothing(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	warm := newClient(t, b, web(), false)
	warm.connect()
	warm.reaches(settled(meshtest.Snapshot(t, twoClusters), web()))
	warm.disconnect()
	eventually(t, "nobody connected", func() bool { return len(b.Proxies()) == 0 })
	before := runtime.NumGoroutine()
	conn, err := grpc.NewClient(b.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		ctx, cancel := context.WithCancel(web().context(context.Background()))
		s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, Node: web().node()}); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
	}
	conn.Close()
	eventually(t, "goroutines are back", func() bool { return runtime.NumGoroutine() <= before && len(b.Proxies()) == 0 })
}
