package ads_test

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// held is what a client has of one type: bytes and versions by name.
type held struct {
	bodies   map[string][]byte
	versions map[string]string
}

// client is a proxy as Envoy is one: it asks for all xds clusters and
// listeners, and for the load assignments and routes that those refer to. What
// it has outlives its streams.
type client struct {
	t     testing.TB
	bench *bench
	who   who
	sotw  bool

	mu      sync.Mutex
	types   map[string]held
	version map[string]string // state of the world: last accepted
	changed chan struct{}

	cancel context.CancelFunc
	done   chan struct{}
}

func newClient(t testing.TB, b *bench, w who, sotw bool) *client {
	c := &client{t: t, bench: b, who: w, sotw: sotw, types: map[string]held{}, version: map[string]string{}, changed: make(chan struct{}, 1)}
	for _, url := range []string{cds, eds, lds, rds} {
		c.types[url] = held{map[string][]byte{}, map[string]string{}}
	}
	t.Cleanup(c.disconnect)
	return c
}

// connect opens a stream and serves it until disconnect.
func (c *client) connect() {
	ctx, cancel := context.WithCancel(c.who.context(context.Background()))
	c.cancel, c.done = cancel, make(chan struct{})
	api := c.bench.dial(c.t)
	go func() {
		defer close(c.done)
		if c.sotw {
			c.runSotw(ctx, api)
		} else {
			c.runDelta(ctx, api)
		}
	}()
}

func (c *client) disconnect() {
	if c.cancel != nil {
		c.cancel()
		<-c.done
		c.cancel = nil
	}
}

// wanted returns the names of url that c's xds clusters or listeners refer to.
func (c *client) wanted(url string) []string {
	var out []string
	if url == eds {
		for _, body := range c.types[cds].bodies {
			var m clusterv3.Cluster
			if err := unmarshal(body, &m); err == nil && m.GetType() == clusterv3.Cluster_EDS {
				out = append(out, m.GetEdsClusterConfig().GetServiceName())
			}
		}
	} else {
		for _, body := range c.types[lds].bodies {
			var m listenerv3.Listener
			if err := unmarshal(body, &m); err == nil {
				out = append(out, routesOf(&m)...)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func routesOf(l *listenerv3.Listener) (out []string) {
	for _, chain := range append(l.FilterChains, l.DefaultFilterChain) {
		for _, f := range chain.GetFilters() {
			var m hcmv3.HttpConnectionManager
			if f.GetTypedConfig().UnmarshalTo(&m) == nil && m.GetRds() != nil {
				out = append(out, m.GetRds().RouteConfigName)
			}
		}
	}
	return out
}

// prune forgets what nothing refers to any more, as Envoy does.
func (c *client) prune() {
	for _, url := range []string{eds, rds} {
		want := c.wanted(url)
		for name := range c.types[url].bodies {
			if !slices.Contains(want, name) {
				delete(c.types[url].bodies, name)
				delete(c.types[url].versions, name)
			}
		}
	}
}

func (c *client) applied() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *client) runDelta(ctx context.Context, api discoveryv3.AggregatedDiscoveryServiceClient) {
	s, err := api.DeltaAggregatedResources(ctx)
	if err != nil {
		return
	}
	subscribed := map[string][]string{}
	node := c.who.node()
	send := func(m *discoveryv3.DeltaDiscoveryRequest) {
		m.Node, node = node, nil
		_ = s.Send(m) // the next Recv tells
	}
	// resubscribe asks for what is wanted now; first brings the versions.
	resubscribe := func(url string, first bool) {
		want := c.wanted(url)
		m := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: url}
		if first {
			m.InitialResourceVersions = maps.Clone(c.types[url].versions)
		}
		m.ResourceNamesSubscribe = slices.DeleteFunc(slices.Clone(want), func(n string) bool { return slices.Contains(subscribed[url], n) })
		m.ResourceNamesUnsubscribe = slices.DeleteFunc(slices.Clone(subscribed[url]), func(n string) bool { return slices.Contains(want, n) })
		subscribed[url] = want
		if first || len(m.ResourceNamesSubscribe)+len(m.ResourceNamesUnsubscribe) > 0 {
			send(m)
		}
	}
	c.mu.Lock()
	send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, InitialResourceVersions: maps.Clone(c.types[cds].versions)})
	resubscribe(eds, true)
	send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: lds, InitialResourceVersions: maps.Clone(c.types[lds].versions)})
	resubscribe(rds, true)
	c.mu.Unlock()
	for {
		m, err := s.Recv()
		if err != nil {
			return
		}
		c.mu.Lock()
		h := c.types[m.TypeUrl]
		for _, r := range m.Resources {
			h.bodies[r.Name], h.versions[r.Name] = r.Resource.Value, r.Version
		}
		for _, name := range m.RemovedResources {
			delete(h.bodies, name)
			delete(h.versions, name)
		}
		send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.TypeUrl, ResponseNonce: m.Nonce})
		resubscribe(eds, false)
		resubscribe(rds, false)
		c.prune()
		c.mu.Unlock()
		c.applied()
	}
}

func (c *client) runSotw(ctx context.Context, api discoveryv3.AggregatedDiscoveryServiceClient) {
	s, err := api.StreamAggregatedResources(ctx)
	if err != nil {
		return
	}
	subscribed, nonce := map[string][]string{}, map[string]string{}
	node := c.who.node()
	send := func(url string) {
		m := &discoveryv3.DiscoveryRequest{Node: node, TypeUrl: url, VersionInfo: c.version[url], ResponseNonce: nonce[url], ResourceNames: subscribed[url]}
		node = nil
		_ = s.Send(m) // the next Recv tells
	}
	resubscribe := func(url string) bool {
		want := c.wanted(url)
		same := slices.Equal(want, subscribed[url])
		subscribed[url] = want
		return !same
	}
	c.mu.Lock()
	resubscribe(eds)
	resubscribe(rds)
	for _, url := range []string{cds, eds, lds, rds} {
		send(url)
	}
	c.mu.Unlock()
	for {
		m, err := s.Recv()
		if err != nil {
			return
		}
		c.mu.Lock()
		h := c.types[m.TypeUrl]
		if m.TypeUrl == cds || m.TypeUrl == lds {
			clear(h.bodies)
		}
		for _, r := range m.Resources {
			h.bodies[nameOf(c.t, r)] = r.Value
		}
		c.version[m.TypeUrl], nonce[m.TypeUrl] = m.VersionInfo, m.Nonce
		send(m.TypeUrl)
		for _, url := range []string{eds, rds} {
			if resubscribe(url) {
				send(url)
			}
		}
		c.prune()
		c.mu.Unlock()
		c.applied()
	}
}

func nameOf(t testing.TB, a *anypb.Any) string {
	m, err := a.UnmarshalNew()
	if err != nil {
		t.Error(err)
		return ""
	}
	switch m := m.(type) {
	case *clusterv3.Cluster:
		return m.Name
	case *endpointv3.ClusterLoadAssignment:
		return m.ClusterName
	case *listenerv3.Listener:
		return m.Name
	case *routev3.RouteConfiguration:
		return m.Name
	}
	t.Errorf("unexpected %T", m)
	return ""
}

// world is a copy of what c has, by type and name.
func (c *client) world() map[string]map[string][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]map[string][]byte{}
	for url, h := range c.types {
		out[url] = maps.Clone(h.bodies)
	}
	return out
}

// reaches waits until c has exactly want.
func (c *client) reaches(want map[string]map[string][]byte) {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		got := c.world()
		if sameWorld(got, want) {
			return
		}
		select {
		case <-c.changed:
		case <-deadline:
			c.t.Fatalf("sotw=%v: %s\nproxies: %+v", c.sotw, difference(got, want), c.bench.Proxies())
		}
	}
}

func sameWorld(a, b map[string]map[string][]byte) bool {
	return maps.EqualFunc(a, b, func(x, y map[string][]byte) bool { return maps.EqualFunc(x, y, bytes.Equal) })
}
