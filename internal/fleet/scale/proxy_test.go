package scale_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/trust"
)

// Types of resources that a proxy asks for.
const (
	typePrefix = "type.googleapis.com/envoy.config."
	typeCDS    = typePrefix + "cluster.v3.Cluster"
	typeEDS    = typePrefix + "endpoint.v3.ClusterLoadAssignment"
	typeLDS    = typePrefix + "listener.v3.Listener"
	typeRDS    = typePrefix + "route.v3.RouteConfiguration"
)

// proxy is an xDS client that asks for what a sidecar asks for.
type proxy struct {
	name  string
	hears func(name string, hops int, at time.Time) // each load assignment; may be nil

	mu     sync.Mutex
	has    map[string]map[string]bool // by type: names
	hops   map[string]int             // by load assignment: its endpoints
	pushes []push
	bytes  int
	err    error
}

// push is one response.
type push struct {
	url     string
	names   []string
	removed []string
}

func callerName(i int) string { return fmt.Sprintf("caller-%d", i) }
func callerIP(i int) string   { return fmt.Sprintf("10.99.0.%d", i+1) }

// connect opens the stream of the i-th caller's sidecar. It is read until the
// test ends.
func (w *world) connect(i int, hears func(name string, hops int, at time.Time)) *proxy {
	w.t.Helper()
	id, err := trust.NewID(w.bundle.Domain(), callers, "caller")
	must(w.t, err)
	server, err := trust.NewID(w.bundle.Domain(), api.SystemNamespace, api.ControlPlaneName)
	must(w.t, err)
	config := trust.ClientTLS(w.own.Source(id), trust.ClusterDNS(localCluster), []string{"h2"}, trust.Only(server))
	conn, err := grpc.NewClient("passthrough:///"+w.d.Discovery, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	must(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	must(w.t, err)
	p := &proxy{name: callerName(i), hears: hears, has: map[string]map[string]bool{}, hops: map[string]int{}}
	done := make(chan struct{})
	w.t.Cleanup(func() {
		cancel()
		<-done
		_ = conn.Close()
	})
	must(w.t, p.begin(w.t, stream, i, w.shape.Networks[0]))
	go func() {
		defer close(done)
		p.read(ctx, stream)
	}()
	return p
}

type deltaStream = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

func (p *proxy) begin(t testing.TB, stream deltaStream, i int, network string) error {
	t.Helper()
	fields, err := structpb.NewStruct(map[string]any{
		"CLUSTER_ID": localCluster, "NETWORK": network, "NAMESPACE": callers, "POD_NAME": p.name, "SERVICE_ACCOUNT": "caller", "PROXY_TYPE": "sidecar", "SPEAKS": "mtls",
	})
	must(t, err)
	node := &corev3.Node{Id: "sidecar~" + callerIP(i) + "~" + p.name + "." + callers + "~" + callers + ".svc.cluster.local", Cluster: "caller." + callers, Metadata: fields}
	for _, url := range []string{typeCDS, typeLDS} {
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: url}); err != nil {
			return err
		}
		node = nil
	}
	return nil
}

func (p *proxy) read(ctx context.Context, stream deltaStream) {
	for {
		response, err := stream.Recv()
		if err == nil {
			err = p.take(stream, response)
		}
		if err != nil {
			if ctx.Err() == nil {
				p.mu.Lock()
				p.err = err
				p.mu.Unlock()
			}
			return
		}
	}
}

// take acknowledges a response and asks for what it leads to.
func (p *proxy) take(stream deltaStream, response *discoveryv3.DeltaDiscoveryResponse) error {
	at := time.Now()
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: response.TypeUrl, ResponseNonce: response.Nonce}); err != nil {
		return err
	}
	next := p.note(response, at)
	follow := map[string]string{typeCDS: typeEDS, typeLDS: typeRDS}[response.TypeUrl]
	if follow == "" || len(next) == 0 {
		return nil
	}
	return stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: follow, ResourceNamesSubscribe: next})
}

// note keeps what came and returns the names of service ports that are new.
func (p *proxy) note(response *discoveryv3.DeltaDiscoveryResponse, at time.Time) (fresh []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.has[response.TypeUrl] == nil {
		p.has[response.TypeUrl] = map[string]bool{}
	}
	has := p.has[response.TypeUrl]
	got := push{url: response.TypeUrl, removed: response.RemovedResources}
	p.bytes += proto.Size(response)
	for _, r := range response.Resources {
		got.names = append(got.names, r.Name)
		if strings.HasPrefix(r.Name, "outbound|") && !has[r.Name] {
			fresh = append(fresh, r.Name)
		}
		has[r.Name] = true
		if response.TypeUrl == typeEDS {
			p.assign(r, at)
		}
	}
	for _, name := range response.RemovedResources {
		delete(has, name)
	}
	p.pushes = append(p.pushes, got)
	return fresh
}

// assign counts a load assignment's endpoints. The caller holds mu.
func (p *proxy) assign(r *discoveryv3.Resource, at time.Time) {
	var load endpointv3.ClusterLoadAssignment
	if err := proto.Unmarshal(r.Resource.GetValue(), &load); err != nil {
		p.err = err
		return
	}
	n := 0
	for _, group := range load.Endpoints {
		n += len(group.LbEndpoints)
	}
	p.hops[r.Name] = n
	if p.hears != nil {
		p.hears(r.Name, n, at)
	}
}

// missing says which of the service ports in want (by load assignment, with its
// number of endpoints) the proxy does not have complete; at most one is named.
func (p *proxy) missing(want map[string]int) (n int, example string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, hops := range want {
		if !p.has[typeCDS][name] || !p.has[typeLDS][name] || !p.has[typeRDS][name] || p.hops[name] != hops || !p.has[typeEDS][name] {
			n, example = n+1, fmt.Sprintf("%s: %d endpoints, want %d", name, p.hops[name], hops)
		}
	}
	return n, example, p.err
}

// since returns the pushes after the first n, and how many there are now.
func (p *proxy) since(n int) ([]push, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]push(nil), p.pushes[n:]...), len(p.pushes)
}
