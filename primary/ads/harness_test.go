package ads_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/internal/meshtest"
	"github.com/isthmus-mesh/isthmus/primary/ads"
)

const (
	cds = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	eds = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	lds = "type.googleapis.com/envoy.config.listener.v3.Listener"
	rds = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

// patience bounds every wait of these tests.
const patience = 30 * time.Second

// bench is a server on a loopback socket.
type bench struct {
	*ads.Server
	addr    string
	metrics *prometheus.Registry
}

// start serves until the test ends. Callers prove themselves by the metadata
// "test-caller: NAMESPACE/ACCOUNT/CLUSTER/POD", which stands for a certificate.
func start(t testing.TB, change func(*ads.Options)) *bench {
	t.Helper()
	b := &bench{metrics: prometheus.NewRegistry()}
	opts := ads.Options{Authenticate: authenticate, Metrics: b.metrics}
	if change != nil {
		change(&opts)
	}
	server, err := ads.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	b.Server = server
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.addr = l.Addr().String()
	g := grpc.NewServer()
	server.Register(g)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := g.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() { g.Stop(); wg.Wait() })
	return b
}

func authenticate(ctx context.Context) (ads.Caller, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	get := func(k string) string {
		if v := md.Get(k); len(v) > 0 {
			return v[0]
		}
		return ""
	}
	if get("test-account") == "" {
		return ads.Caller{}, status.Error(codes.Unauthenticated, "no credentials")
	}
	id, err := meshtest.Account(get("test-namespace"), get("test-account"))
	return ads.Caller{ID: id, Cluster: get("test-cluster"), Pod: get("test-pod")}, err
}

// who is a client: what it proves, and what it says beyond that.
type who struct {
	namespace, account, cluster, pod string
	say                              map[string]string
}

func web() who { return who{namespace: "shop", account: "web", cluster: "east", pod: "web-1"} }

func gateway(cluster string) who {
	return who{namespace: "isthmus-system", account: "isthmus-eastwest", cluster: cluster, pod: "gw-1", say: map[string]string{"PROXY_TYPE": "east-west"}}
}

func entry(cluster string) who {
	return who{namespace: "isthmus-system", account: "isthmus-entry", cluster: cluster, pod: "entry-1", say: map[string]string{"PROXY_TYPE": "entry"}}
}

func (w who) node() *corev3.Node {
	fields := map[string]string{
		"CLUSTER_ID": w.cluster, "NAMESPACE": w.namespace, "SERVICE_ACCOUNT": w.account, "POD_NAME": w.pod, "SPEAKS": "mtls",
	}
	for k, v := range w.say {
		fields[k] = v
	}
	n := &corev3.Node{Id: "sidecar~10.0.0.1~" + w.pod + "." + w.namespace + "~" + w.namespace + ".svc.cluster.local", Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{}}}
	for k, v := range fields {
		n.Metadata.Fields[k] = structpb.NewStringValue(v)
	}
	return n
}

func (w who) context(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "test-namespace", w.namespace, "test-account", w.account, "test-cluster", w.cluster, "test-pod", w.pod)
}

// dial returns a client of b that is closed with the test.
func (b *bench) dial(t testing.TB) discoveryv3.AggregatedDiscoveryServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(b.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
}

// raw is a delta stream of which the test sends and reads every message.
type raw struct {
	t      testing.TB
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	in     chan *discoveryv3.DeltaDiscoveryResponse
	ended  chan error
	who    who
	said   bool
	cancel context.CancelFunc
}

func (b *bench) delta(t testing.TB, w who) *raw {
	t.Helper()
	ctx, cancel := context.WithCancel(w.context(context.Background()))
	t.Cleanup(cancel)
	s, err := b.dial(t).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r := &raw{t: t, stream: s, who: w, in: make(chan *discoveryv3.DeltaDiscoveryResponse), ended: make(chan error, 1), cancel: cancel}
	go func() {
		for {
			m, err := s.Recv()
			if err != nil {
				r.ended <- err
				return
			}
			select {
			case r.in <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	return r
}

func (r *raw) send(m *discoveryv3.DeltaDiscoveryRequest) {
	r.t.Helper()
	if !r.said {
		m.Node, r.said = r.who.node(), true
	}
	if err := r.stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
		r.t.Fatal(err)
	}
}

func (r *raw) receive() *discoveryv3.DeltaDiscoveryResponse {
	r.t.Helper()
	select {
	case m := <-r.in:
		return m
	case err := <-r.ended:
		r.t.Fatalf("stream ended: %v", err)
	case <-time.After(patience):
		r.t.Fatal("no response")
	}
	return nil
}

// silence checks that nothing is sent for 100 ms.
func (r *raw) silence() {
	r.t.Helper()
	select {
	case m := <-r.in:
		r.t.Fatalf("sent without need: %s %v, removed %v", m.TypeUrl, names(m), m.RemovedResources)
	case err := <-r.ended:
		r.t.Fatalf("stream ended: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
}

func (r *raw) ack(m *discoveryv3.DeltaDiscoveryResponse) {
	r.t.Helper()
	r.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.TypeUrl, ResponseNonce: m.Nonce})
}

// expect receives a response of that type and acknowledges it.
func (r *raw) expect(url string) *discoveryv3.DeltaDiscoveryResponse {
	r.t.Helper()
	m := r.receive()
	if m.TypeUrl != url {
		r.t.Fatalf("sent %s %v, want %s", m.TypeUrl, names(m), url)
	}
	r.ack(m)
	return m
}

func (r *raw) end() codes.Code {
	r.t.Helper()
	select {
	case err := <-r.ended:
		return status.Code(err)
	case m := <-r.in:
		r.t.Fatalf("sent %s in place of an end", m.TypeUrl)
	case <-time.After(patience):
		r.t.Fatal("stream goes on")
	}
	return codes.OK
}

func names(m *discoveryv3.DeltaDiscoveryResponse) []string {
	var out []string
	for _, r := range m.Resources {
		out = append(out, r.Name)
	}
	return out
}
