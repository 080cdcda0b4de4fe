package relay

import (
	"context"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/dataplane/xds"
)

const deadline = 20 * time.Second

// upstream is a real ADS server with fixed contents. It answers what is asked
// for and not held, and records what is refused.
type upstream struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	silent    bool
	resources map[string][]*discoveryv3.Resource

	mu    sync.Mutex
	nodes []string
	nacks []string
	first []map[string]string // versions of first requests for xds clusters
}

func (u *upstream) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	for n := 0; ; n++ {
		r, err := g.Recv()
		if err != nil {
			return err
		}
		u.note(r)
		if u.silent || r.GetResponseNonce() != "" {
			continue
		}
		resp := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: r.GetTypeUrl(), Nonce: fmt.Sprint(n)}
		for _, res := range u.resources[r.GetTypeUrl()] {
			asked := len(r.GetResourceNamesSubscribe()) == 0 || slices.Contains(r.GetResourceNamesSubscribe(), res.GetName())
			if asked && r.GetInitialResourceVersions()[res.GetName()] != res.GetVersion() {
				resp.Resources = append(resp.Resources, res)
			}
		}
		if err := g.Send(resp); err != nil {
			return err
		}
	}
}

func (u *upstream) note(r *discoveryv3.DeltaDiscoveryRequest) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r.GetNode() != nil {
		u.nodes = append(u.nodes, r.GetNode().GetId())
	}
	if d := r.GetErrorDetail(); d != nil {
		u.nacks = append(u.nacks, d.GetMessage())
	}
	if r.GetTypeUrl() == xds.TypeCluster && r.GetResponseNonce() == "" {
		u.first = append(u.first, r.GetInitialResourceVersions())
	}
}

func (u *upstream) refused() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.nacks)
}

func contents(t testing.TB, version string) map[string][]*discoveryv3.Resource {
	return map[string][]*discoveryv3.Resource{
		xds.TypeCluster: {
			wrap(t, version, "a", &clusterv3.Cluster{Name: "a", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}}),
			wrap(t, version, "bad", &clusterv3.Cluster{Name: "bad"}),
		},
		xds.TypeEndpoint: {wrap(t, version, "a", &endpointv3.ClusterLoadAssignment{ClusterName: "a"})},
		xds.TypeListener: {wrap(t, version, "l", &listenerv3.Listener{Name: "l", StatPrefix: version})},
	}
}

func wrap(t testing.TB, version, name string, m proto.Message) *discoveryv3.Resource {
	t.Helper()
	body, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return &discoveryv3.Resource{Name: name, Version: version, Resource: body}
}

// serve runs register's services on l until stop.
func serve(t testing.TB, l net.Listener, register func(*grpc.Server)) (stop func()) {
	t.Helper()
	s := grpc.NewServer()
	register(s)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return s.Stop
}

func listen(t testing.TB, network, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t testing.TB, target string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// start runs a relay on a unix socket, as a new process would.
func start(t testing.TB, controlPlane string, file *xds.File) (r *Relay, socket string) {
	t.Helper()
	r, err := New(Options{
		Conn: dial(t, "passthrough:///"+controlPlane), Node: &corev3.Node{Id: "the-proxy"}, LastGood: file,
		Patience: 200 * time.Millisecond, Retry: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(t.TempDir(), "envoy.sock")
	serve(t, listen(t, "unix", socket), r.Register)
	run(t, r.Run)
	return r, socket
}

func run(t testing.TB, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// envoy stands in for Envoy: our own client, which refuses the xds cluster "bad".
type envoy struct {
	mu    sync.Mutex
	state xds.State
}

func (*envoy) Check(_, name string, _ proto.Message) error {
	if name == "bad" {
		return fmt.Errorf("not good")
	}
	return nil
}

func (e *envoy) Apply(s xds.State) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state = s
	return nil
}

func (e *envoy) version() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	l, _ := e.state[xds.TypeListener]["l"].(*listenerv3.Listener)
	return l.GetStatPrefix()
}

func startEnvoy(t testing.TB, socket string) (*envoy, *xds.Client, func()) {
	t.Helper()
	e := new(envoy)
	c, err := xds.New(xds.Options{Conn: dial(t, "unix://"+socket), Node: &corev3.Node{Id: "whatever envoy says"}, Applier: e})
	if err != nil {
		t.Fatal(err)
	}
	return e, c, run(t, c.Run)
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(deadline)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("waited for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func awaitReady(t testing.TB, c *xds.Client) {
	t.Helper()
	await(t, "readiness", func() bool { return c.Status().Ready })
}

func TestRelay(t *testing.T) {
	up := &upstream{resources: contents(t, "1")}
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, func(s *grpc.Server) { discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, up) })
	r, socket := start(t, l.Addr().String(), nil)
	e, c, _ := startEnvoy(t, socket)
	awaitReady(t, c)
	if e.version() != "1" {
		t.Errorf("envoy has version %q", e.version())
	}
	await(t, "the refusal", func() bool { return len(up.refused()) == 1 })
	if got := up.refused()[0]; got != "bad: not good" {
		t.Errorf("refused: %s", got)
	}
	if up.nodes[0] != "the-proxy" || len(up.nodes) != 1 {
		t.Errorf("nodes: %v", up.nodes)
	}
	await(t, "the record", func() bool { return len(r.State()[xds.TypeEndpoint]) == 1 })
	s := r.Status()
	if !s.Connected || len(s.Types[xds.TypeCluster].Refused) != 1 || s.Types[xds.TypeCluster].Held != 1 {
		t.Errorf("status: %+v", s)
	}
	select {
	case <-r.Ready():
	case <-time.After(deadline):
		t.Error("not ready")
	}
}

// Envoy and relay restart while the control plane is down, or mute: they serve
// what Envoy had accepted. When the control plane is back, Envoy is told.
func TestRelayLastGood(t *testing.T) {
	for _, mute := range []bool{false, true} {
		t.Run(fmt.Sprintf("mute=%t", mute), func(t *testing.T) {
			file := &xds.File{Path: filepath.Join(t.TempDir(), "last-good"), Node: "the-proxy"}
			l := listen(t, "tcp", "127.0.0.1:0")
			addr := l.Addr().String()
			stop := serve(t, l, func(s *grpc.Server) {
				discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, &upstream{resources: contents(t, "1")})
			})
			_, socket := start(t, addr, file)
			_, c, stopEnvoy := startEnvoy(t, socket)
			awaitReady(t, c)
			await(t, "the file", func() bool {
				got, err := file.Read()
				return err == nil && len(got) == 3
			})
			stopEnvoy()
			stop()
			if mute {
				stop = serve(t, listen(t, "tcp", addr), func(s *grpc.Server) {
					discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, &upstream{silent: true})
				})
			}
			r, socket := start(t, addr, file)
			e, c, _ := startEnvoy(t, socket)
			awaitReady(t, c)
			if e.version() != "1" || r.Status().Connected {
				t.Errorf("version %q, status %+v", e.version(), r.Status())
			}
			stop()

			up := &upstream{resources: contents(t, "2")}
			serve(t, listen(t, "tcp", addr), func(s *grpc.Server) { discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, up) })
			await(t, "the new version", func() bool { return e.version() == "2" })
			up.mu.Lock()
			defer up.mu.Unlock()
			if !slices.ContainsFunc(up.first, func(v map[string]string) bool { return maps.Equal(v, map[string]string{"a": "1"}) }) {
				t.Errorf("versions told: %v", up.first)
			}
		})
	}
}

// Without control plane and file there is an error and nothing else.
func TestRelayWithNothing(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	l.Close()
	_, socket := start(t, l.Addr().String(), nil)
	_, c, _ := startEnvoy(t, socket)
	await(t, "an error", func() bool { return strings.Contains(c.Status().LastError, "no last good configuration") })
	if c.Status().Ready {
		t.Error("ready with nothing")
	}
}

func TestMentions(t *testing.T) {
	for _, c := range []struct {
		text, name string
		want       bool
	}{
		{"", "a", false},
		{"a: broken", "a", true},
		{"bad: broken", "a", false},
		{"bad: broken\na: too", "a", true},
		{"Error adding/updating cluster(s) outbound|80||x: no", "outbound|80||x", true},
		{"outbound|80||x.y: no", "outbound|80||x", false},
		{"anything", "", false},
	} {
		if got := mentions(c.text, c.name); got != c.want {
			t.Errorf("mentions(%q, %q) = %t", c.text, c.name, got)
		}
	}
}
