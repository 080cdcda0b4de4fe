package ads

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// StreamAggregatedResources serves state-of-the-world xDS.
func (s *Server) StreamAggregatedResources(g discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return s.serve(sotwWire{g})
}

type sotwWire struct {
	discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer
}

func (sotwWire) sotw() bool { return true }

func (w sotwWire) receive() (*request, *corev3.Node, error) {
	m, err := w.Recv()
	if err != nil {
		return nil, nil, err
	}
	return &request{
		url: m.GetTypeUrl(), nonce: m.GetResponseNonce(), refused: refusalText(m.ErrorDetail != nil, m.GetErrorDetail().GetMessage()),
		names: m.GetResourceNames(), version: m.GetVersionInfo(),
	}, m.GetNode(), nil
}

func (w sotwWire) send(r *response) error {
	m := &discoveryv3.DiscoveryResponse{TypeUrl: r.url, Nonce: r.nonce, VersionInfo: r.version}
	for _, res := range r.resources {
		m.Resources = append(m.Resources, res.Body)
	}
	return w.Send(m)
}
