package server_test

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cav1 "github.com/isthmus-mesh/isthmus/api/ca"
	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
)

// What another cluster of the same root proves is true, and opens nothing here:
// neither its workloads nor its gateway nor its control plane. (faults 41, 50)
func TestProxiesOfAnotherCluster(t *testing.T) {
	root := newRoot(t)
	bundle, err := root.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	d := start(t, "isthmusd-deputy", caFolder(t, root, "east"), bundle)
	chain, key, err := root.Intermediate("west")
	if err != nil {
		t.Fatal(err)
	}
	west, err := ca.New(ca.Options{Cluster: "west", Domain: root.Domain(), ChainPEM: chain, KeyPEM: key, BundlePEM: root.CertificatePEM()})
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range [][2]string{{"shop", "web"}, {"isthmus-system", "isthmus-eastwest"}, {"isthmus-system", "isthmusd"}} {
		id, err := trust.NewID(root.Domain(), who[0], who[1])
		if err != nil {
			t.Fatal(err)
		}
		svid, err := west.Issue(id)
		if err != nil {
			t.Fatal(err)
		}
		conn := d.dial(t, svid)
		stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster"})
		if _, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: xds: %v", id, err)
		}
		if _, err := cav1.NewCertificateServiceClient(conn).Sign(t.Context(), &cav1.SignRequest{Cluster: "east"}); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: sign: %v", id, err)
		}
	}
}
