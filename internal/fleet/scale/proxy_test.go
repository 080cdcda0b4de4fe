package scale_test

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"strings"
	"sync"
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

	node *corev3.Node

	mu     sync.Mutex
	has    map[string]map[string]string // by type: versions by name
	hops   map[string]int               // by load assignment: its endpoints
	pushes []push
	bytes  int
	ended  []error // why streams have ended
	bad    error
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
	p := &proxy{name: callerName(i), hears: hears, has: map[string]map[string]string{}, hops: map[string]int{}}
	p.node = w.nodeOf(i)
	done := make(chan struct{})
	w.t.Cleanup(func() {
		cancel()
		<-done
		_ = conn.Close()
	})
	go func() {
		defer close(done)
		p.run(ctx, discoveryv3.NewAggregatedDiscoveryServiceClient(conn))
	}()
	return p
}

// nodeOf is what the i-th caller's sidecar says of itself.
func (w *world) nodeOf(i int) *corev3.Node {
	w.t.Helper()
	name := callerName(i)
	fields, err := structpb.NewStruct(map[string]any{
		"CLUSTER_ID": localCluster, "NETWORK": w.shape.Networks[0], "NAMESPACE": callers, "POD_NAME": name, "SERVICE_ACCOUNT": "caller", "PROXY_TYPE": "sidecar", "SPEAKS": "mtls",
	})
	must(w.t, err)
	return &corev3.Node{Id: "sidecar~" + callerIP(i) + "~" + name + "." + callers + "~" + callers + ".svc.cluster.local", Cluster: "caller." + callers, Metadata: fields}
}

type deltaStream = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

// run keeps a stream open until ctx ends. The server ends streams after a time;
// the next one says what is there already.
func (p *proxy) run(ctx context.Context, client discoveryv3.AggregatedDiscoveryServiceClient) {
	for ctx.Err() == nil {
		stream, err := client.DeltaAggregatedResources(ctx)
		if err == nil {
			err = p.begin(stream)
		}
		for err == nil {
			var response *discoveryv3.DeltaDiscoveryResponse
			if response, err = stream.Recv(); err == nil {
				err = p.take(stream, response)
			}
		}
		p.mu.Lock()
		p.ended = append(p.ended, err)
		p.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// begin asks for all xds clusters and listeners, and again for what was asked
// for before.
func (p *proxy) begin(stream deltaStream) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	node := p.node
	for _, url := range []string{typeCDS, typeEDS, typeLDS, typeRDS} {
		request := &discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: url, InitialResourceVersions: maps.Clone(p.has[url])}
		if from := map[string]string{typeEDS: typeCDS, typeRDS: typeLDS}[url]; from != "" {
			if request.ResourceNamesSubscribe = ports(maps.Keys(p.has[from])); len(request.ResourceNamesSubscribe) == 0 {
				continue
			}
		}
		if err := stream.Send(request); err != nil {
			return err
		}
		node = nil
	}
	return nil
}

// ports picks the names of service ports.
func ports(names iter.Seq[string]) (out []string) {
	for name := range names {
		if strings.HasPrefix(name, "outbound|") {
			out = append(out, name)
		}
	}
	return out
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
		p.has[response.TypeUrl] = map[string]string{}
	}
	has := p.has[response.TypeUrl]
	got := push{url: response.TypeUrl, removed: response.RemovedResources}
	p.bytes += proto.Size(response)
	for _, r := range response.Resources {
		got.names = append(got.names, r.Name)
		if strings.HasPrefix(r.Name, "outbound|") && has[r.Name] == "" {
			fresh = append(fresh, r.Name)
		}
		has[r.Name] = r.Version
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
		p.bad = err
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
		complete := p.hops[name] == hops
		for _, url := range []string{typeCDS, typeEDS, typeLDS, typeRDS} {
			complete = complete && p.has[url][name] != ""
		}
		if !complete {
			n, example = n+1, fmt.Sprintf("%s: %d endpoints, want %d", name, p.hops[name], hops)
		}
	}
	return n, example, p.bad
}

// since returns the pushes after the first n, and how many there are now.
func (p *proxy) since(n int) ([]push, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]push(nil), p.pushes[n:]...), len(p.pushes)
}
