package ads

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// DeltaAggregatedResources serves delta xDS.
func (s *Server) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return s.serve(deltaWire{g})
}

type deltaWire struct {
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
}

func (deltaWire) sotw() bool { return false }

func (w deltaWire) receive() (*request, *corev3.Node, error) {
	m, err := w.Recv()
	if err != nil {
		return nil, nil, err
	}
	return &request{
		url: m.GetTypeUrl(), nonce: m.GetResponseNonce(), refused: refusalText(m.ErrorDetail != nil, m.GetErrorDetail().GetMessage()),
		subscribe: m.GetResourceNamesSubscribe(), unsubscribe: m.GetResourceNamesUnsubscribe(), versions: m.GetInitialResourceVersions(),
	}, m.GetNode(), nil
}

func (w deltaWire) send(r *response) error {
	m := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: r.url, Nonce: r.nonce, RemovedResources: r.removed}
	for _, res := range r.resources {
		m.Resources = append(m.Resources, res.Delta)
	}
	return w.Send(m)
}

// refusalText returns the error of a NACK, which is one by being there, and ""
// for an ACK.
func refusalText(nack bool, message string) string {
	switch {
	case !nack:
		return ""
	case message == "":
		return "refused without a reason"
	}
	return clip(message, maxRefusal)
}

// maxRefusal bounds, in bytes, what of a NACK's text is searched for names.
const maxRefusal = 64 << 10
