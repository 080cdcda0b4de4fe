package server

import (
	"context"
	"crypto/tls"
	"maps"
	"slices"
	"strings"
	"sync"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"

	cav1 "github.com/isthmus-mesh/isthmus/api/ca"
	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/csr"
)

// planes finds who answers a caller: the plane of his cluster, or of the own one,
// which tells him no. What he says of himself only chooses; the plane then has
// it proved.
type planes struct {
	own *plane

	mu      sync.RWMutex
	remotes map[string]*plane
	metered map[string]*prometheus.Registry
}

func newPlanes(own *plane) *planes {
	return &planes{own: own, remotes: map[string]*plane{}, metered: map[string]*prometheus.Registry{}}
}

// of returns the plane of a cluster, or nil.
func (p *planes) of(cluster string) *plane {
	if cluster == string(p.own.cluster) {
		return p.own
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.remotes[cluster]
}

// orOwn returns the plane of a cluster, or the own one.
func (p *planes) orOwn(cluster string) *plane {
	if found := p.of(cluster); found != nil {
		return found
	}
	return p.own
}

// all returns every plane, the own one first, then by name.
func (p *planes) all() []*plane {
	p.mu.RLock()
	defer p.mu.RUnlock()
	out := []*plane{p.own}
	for _, name := range slices.Sorted(maps.Keys(p.remotes)) {
		out = append(out, p.remotes[name])
	}
	return out
}

func (p *planes) put(cluster string, made *plane, metrics *prometheus.Registry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remotes[cluster], p.metered[cluster] = made, metrics
}

func (p *planes) remove(cluster string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.remotes, cluster)
	delete(p.metered, cluster)
}

// metrics gathers the own plane's and, with the label "served", each remote's.
func (p *planes) metrics(own prometheus.Gatherer) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		gather := prometheus.Gatherers{own}
		p.mu.RLock()
		for _, name := range slices.Sorted(maps.Keys(p.metered)) {
			gather = append(gather, p.metered[name])
		}
		p.mu.RUnlock()
		return gather.Gather()
	})
}

// tls is the configuration of the discovery port: a caller who asks for a
// cluster's name meets that cluster's control plane, everybody else the own one.
func (p *planes) tls() *tls.Config {
	config := func(of *plane) *tls.Config { return trust.ServerTLS(of.identity, []string{"h2"}, false, nil) }
	base := config(p.own)
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		cluster, ok := trust.ParseClusterDNS(strings.ToLower(hello.ServerName))
		if served := p.of(cluster); ok && served != nil && served != p.own {
			return config(served), nil
		}
		return nil, nil // base
	}
	return base
}

func (p *planes) register(server *grpc.Server) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, discovery{planes: p})
	cav1.RegisterCertificateServiceServer(server, certificates{planes: p})
}

// discovery is the xDS service of all planes.
type discovery struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	planes *planes
}

func (d discovery) StreamAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return d.planes.orOwn(csr.Claimed(stream.Context())).ads.StreamAggregatedResources(stream)
}

func (d discovery) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return d.planes.orOwn(csr.Claimed(stream.Context())).ads.DeltaAggregatedResources(stream)
}

// certificates is the certificate service of all planes.
type certificates struct {
	cav1.UnimplementedCertificateServiceServer
	planes *planes
}

func (c certificates) Sign(ctx context.Context, request *cav1.SignRequest) (*cav1.SignResponse, error) {
	return c.planes.orOwn(csr.Claimed(ctx)).csr.Sign(ctx, request)
}
