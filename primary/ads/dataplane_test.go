package ads_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
	"github.com/isthmus-mesh/isthmus/dataplane/xds"
	"github.com/isthmus-mesh/isthmus/internal/meshtest"
)

// applier is the built-in data plane without its sockets.
type applier struct {
	mu     sync.Mutex
	config *config.Config
	errs   []error
	ran    chan struct{}
}

func (a *applier) Check(url, name string, m proto.Message) error {
	err := config.Check(url, name, m)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.errs = append(a.errs, err)
	}
	return err
}

func (a *applier) Apply(s xds.State) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	next, err := config.Build(a.config, s)
	if err != nil {
		a.errs = append(a.errs, err)
	}
	a.config = next
	for name, l := range next.Listeners {
		if strings.HasPrefix(name, "outbound|") && l != nil && next.Clusters[name] == nil {
			a.errs = append(a.errs, fmt.Errorf("listener %s before its xds cluster", name))
		}
		if strings.HasPrefix(name, "outbound|") && next.Assignments[name] == nil {
			a.errs = append(a.errs, fmt.Errorf("listener %s before its load assignment", name))
		}
	}
	select {
	case a.ran <- struct{}{}:
	default:
	}
	return err
}

func (a *applier) size() (clusters, assignments, listeners int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.config == nil {
		return 0, 0, 0
	}
	return len(a.config.Clusters), len(a.config.Assignments), len(a.config.Listeners)
}

// dataPlane returns the data plane's own client once it is ready; it runs until
// the test ends.
func dataPlane(t *testing.T, b *bench, w who) (*applier, *xds.Client) {
	t.Helper()
	conn, err := grpc.NewClient(b.addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return streamer(w.context(ctx), desc, cc, method, opts...)
		}))
	if err != nil {
		t.Fatal(err)
	}
	a := &applier{ran: make(chan struct{}, 1)}
	client, err := xds.New(xds.Options{Conn: conn, Node: w.node(), Applier: a})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; conn.Close() })
	select {
	case <-client.Ready():
	case <-time.After(patience):
		t.Fatalf("not ready: %+v", client.Status())
	}
	return a, client
}

// It takes all that entry gateways, callees of chosen clusters, and gateways with
// headless services are sent.
func TestBuiltInDataPlaneTakesEveryKind(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, entered()+`service db.shop headless
  port 5432 tcp
  export west 5432/tcp
  endpoint west 10.2.0.5 pod=db-0 account=db mtls 5432:15432
  synthetic east west db-0 240.241.0.7
workload east/shop/chosen-1 account=chosen 8080/http from:8080=east,west noentry:8080
`))
	chosen := who{namespace: "shop", account: "chosen", cluster: "east", pod: "chosen-1"}
	for _, tt := range []struct {
		who                              who
		clusters, assignments, listeners int
	}{
		{entry("east"), 1, 1, 1},
		{gateway("west"), 3, 3, 1},
		{chosen, 6, 3, 5},
	} {
		a, client := dataPlane(t, b, tt.who)
		eventually(t, tt.who.account+" has everything", func() bool {
			c, e, l := a.size()
			return c == tt.clusters && e == tt.assignments && l == tt.listeners
		})
		a.mu.Lock()
		for _, err := range a.errs {
			t.Errorf("%s: %v (%+v)", tt.who.account, err, client.Status())
		}
		a.mu.Unlock()
	}
}

// The data plane's own client takes everything, refuses nothing, and is never
// given a listener before what it refers to, while services come and go.
func TestBuiltInDataPlane(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	a, client := dataPlane(t, b, web())
	reaches := func(clusters, assignments, listeners int) {
		t.Helper()
		deadline := time.After(patience)
		for {
			c, e, l := a.size()
			if c == clusters && e == assignments && l == listeners {
				return
			}
			select {
			case <-a.ran:
			case <-deadline:
				t.Fatalf("%d xds clusters, %d load assignments, %d listeners: %+v", c, e, l, client.Status())
			}
		}
	}
	reaches(5, 2, 4)
	for n := range 20 {
		b.Update(meshtest.Snapshot(t, twoClusters+strings.ReplaceAll(bigMesh(n*3, "0"), "cluster east", "# cluster east")))
		reaches(5+n*3, 2+n*3, 4+n*3)
	}
	b.Update(meshtest.Snapshot(t, twoClusters))
	reaches(5, 2, 4)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, err := range a.errs {
		t.Error(err)
	}
	eventually(t, "in sync", func() bool {
		for _, ty := range b.Proxies()[0].Types {
			if !ty.Synced || len(ty.Refused) > 0 {
				return false
			}
		}
		return true
	})
}

// More than a response may hold comes in several, none over what a client on
// grpc-go takes.
func TestPortions(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, bigMesh(2600, "0")))
	c := b.delta(t, web())
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	got, responses := 0, 0
	for got < 2603 {
		m := c.expect(cds)
		got += len(m.Resources)
		responses++
		if proto.Size(m) > 3<<20 {
			t.Errorf("a response of %d bytes", proto.Size(m))
		}
	}
	if responses < 2 || got != 2603 {
		t.Errorf("%d xds clusters in %d responses", got, responses)
	}
	c.silence()
}
