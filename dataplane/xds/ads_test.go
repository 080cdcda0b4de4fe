package xds

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

const deadline = 20 * time.Second

// adsServer is a real gRPC server whose streams the test drives by hand.
type adsServer struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	streams chan *adsStream
	addr    string
	server  *grpc.Server
}

type adsStream struct {
	t        testing.TB
	grpc     discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	requests chan *discoveryv3.DeltaDiscoveryRequest
	closed   chan error
	nonce    int
}

func startADS(t testing.TB, addr string) *adsServer {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &adsServer{streams: make(chan *adsStream, 8), addr: l.Addr().String(), server: grpc.NewServer()}
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s.server, s)
	go s.server.Serve(l)
	t.Cleanup(s.server.Stop)
	return s
}

func (s *adsServer) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	st := &adsStream{grpc: g, requests: make(chan *discoveryv3.DeltaDiscoveryRequest, 64), closed: make(chan error, 1)}
	s.streams <- st
	go func() {
		defer close(st.requests)
		for {
			r, err := g.Recv()
			if err != nil {
				return
			}
			st.requests <- r
		}
	}()
	select {
	case err := <-st.closed:
		return err
	case <-g.Context().Done():
		return g.Context().Err()
	}
}

func (s *adsServer) accept(t testing.TB) *adsStream {
	t.Helper()
	select {
	case st := <-s.streams:
		st.t = t
		return st
	case <-time.After(deadline):
		t.Fatal("no stream was opened")
		return nil
	}
}

// next returns the next request, which must be for typeURL.
func (st *adsStream) next(typeURL string) *discoveryv3.DeltaDiscoveryRequest {
	st.t.Helper()
	select {
	case r, ok := <-st.requests:
		if !ok {
			st.t.Fatal("stream ended")
		}
		if r.GetTypeUrl() != typeURL {
			st.t.Fatalf("request for %s, want %s: %v", short(r.GetTypeUrl()), short(typeURL), r)
		}
		return r
	case <-time.After(deadline):
		st.t.Fatalf("no request for %s", short(typeURL))
		return nil
	}
}

// quiet fails where a request comes within a tenth of a second.
func (st *adsStream) quiet() {
	st.t.Helper()
	select {
	case r := <-st.requests:
		st.t.Fatalf("unexpected request: %v", r)
	case <-time.After(100 * time.Millisecond):
	}
}

// send sends resources at version and returns the nonce.
func (st *adsStream) send(typeURL, version string, removed []string, ms ...proto.Message) string {
	st.t.Helper()
	resp := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL, RemovedResources: removed}
	for _, m := range ms {
		resp.Resources = append(resp.Resources, wrap(st.t, version, m))
	}
	return st.sendRaw(resp)
}

func (st *adsStream) sendRaw(resp *discoveryv3.DeltaDiscoveryResponse) string {
	st.t.Helper()
	st.nonce++
	resp.Nonce = fmt.Sprint("n", st.nonce)
	if err := st.grpc.Send(resp); err != nil {
		st.t.Fatal(err)
	}
	return resp.Nonce
}

// acked sends and expects an ACK.
func (st *adsStream) acked(typeURL, version string, removed []string, ms ...proto.Message) {
	st.t.Helper()
	nonce := st.send(typeURL, version, removed, ms...)
	if r := st.next(typeURL); r.GetResponseNonce() != nonce || r.GetErrorDetail() != nil {
		st.t.Fatalf("not an ACK of %s: %v", nonce, r)
	}
}

// refused sends and returns the text of the NACK.
func (st *adsStream) refused(typeURL, version string, removed []string, ms ...proto.Message) string {
	st.t.Helper()
	nonce := st.send(typeURL, version, removed, ms...)
	r := st.next(typeURL)
	if r.GetResponseNonce() != nonce || r.GetErrorDetail() == nil {
		st.t.Fatalf("not a NACK of %s: %v", nonce, r)
	}
	return r.GetErrorDetail().GetMessage()
}

func wrap(t testing.TB, version string, m proto.Message) *discoveryv3.Resource {
	t.Helper()
	body, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return &discoveryv3.Resource{Name: nameOf(m), Version: version, Resource: body}
}

// recorder is an Applier that refuses resources and states by name.
type recorder struct {
	mu      sync.Mutex
	state   State
	badName string // Check refuses it
	badFor  string // Apply refuses states that hold this xds cluster
	changed chan struct{}
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{}, 1)} }

func (r *recorder) Check(_, name string, m proto.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name == "panic" {
		panic("checker")
	}
	if r.badName != "" && name == r.badName {
		return errors.New("field connect_timeout is not implemented")
	}
	return nil
}

func (r *recorder) Apply(s State) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := s[TypeCluster][r.badFor]; ok && r.badFor != "" {
		return errors.New("state does not fit together")
	}
	r.state = s
	select {
	case r.changed <- struct{}{}:
	default:
	}
	return nil
}

func (r *recorder) refuse(name, state string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.badName, r.badFor = name, state
}

func (r *recorder) names(typeURL string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for n := range r.state[typeURL] {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// await waits until the applied names of typeURL are want.
func (r *recorder) await(t testing.TB, typeURL string, want ...string) {
	t.Helper()
	end := time.After(deadline)
	for !slices.Equal(r.names(typeURL), want) {
		select {
		case <-r.changed:
		case <-end:
			t.Fatalf("%s applied: %v, want %v", short(typeURL), r.names(typeURL), want)
		}
	}
}

func dial(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// sharing is an xds cluster with the load assignment of that name.
func sharing(name, assignment string) *clusterv3.Cluster {
	c := edsCluster(name)
	c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{ServiceName: assignment}
	return c
}

func edsCluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}}
}

func plainCluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST}}
}

func assignment(name string) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{ClusterName: name}
}

func route(name string) *routev3.RouteConfiguration { return &routev3.RouteConfiguration{Name: name} }

func listener(t testing.TB, name, route string) *listenerv3.Listener {
	t.Helper()
	l := &listenerv3.Listener{Name: name}
	if route == "" {
		return l
	}
	hcm, err := anypb.New(&hcmv3.HttpConnectionManager{RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: route}}})
	if err != nil {
		t.Fatal(err)
	}
	l.FilterChains = []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{Name: "hcm", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: hcm}}}}}
	return l
}

func node() *corev3.Node { return &corev3.Node{Id: "sidecar~10.0.0.1~a.shop~shop.svc.cluster.local"} }

func newModelListener(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func serveModel(t testing.TB, l net.Listener, s discoveryv3.AggregatedDiscoveryServiceServer) {
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
	go g.Serve(l)
	t.Cleanup(g.Stop)
}
