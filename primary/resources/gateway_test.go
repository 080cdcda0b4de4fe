package resources_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/meshtest"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

const mixed = `
cluster a network=green read
cluster b network=green read
cluster c network=blue read
service echo.shop
  port 80 http
  export a 80/http
  export b 80/http to=a
  endpoint a 10.2.0.1 pod=a-1 account=echo mtls 80:80
  endpoint b 10.2.0.2 pod=b-1 account=echo mtls 80:80
service inner.shop
  port 80 http
  export b 80/http to=a
  endpoint b 10.2.0.2 pod=b-1 account=echo mtls 80:80
service named.shop
  port 80 http
  export a 80/http
  export b 80/http to=a,c
  endpoint a 10.2.0.1 pod=a-1 account=echo mtls 80:80
  endpoint b 10.2.0.2 pod=b-1 account=echo mtls 80:80
service unknown.shop
  port 80 http
  export b 80/http to=nobody-knows
  endpoint b 10.2.0.2 pod=b-1 account=echo mtls 80:80
service db.shop headless
  port 80 tcp
  export a 80/tcp
  export b 80/tcp to=a
  endpoint a 10.2.0.1 pod=db-0 account=echo mtls 80:80
  endpoint b 10.2.0.2 pod=db-0 account=echo mtls 80:80
`

// Who comes by a gateway is of another network, so it does not pass anybody on to
// pods that only clusters of its own network may call: they would refuse him.
func TestGatewayPassesNobodyOnInVain(t *testing.T) {
	s := meshtest.Snapshot(t, mixed)
	for name, tt := range map[string]struct {
		ports []uint16
		want  []string
	}{
		"echo":    {[]uint16{80}, []string{"10.2.0.1"}},
		"inner":   {nil, nil},
		"named":   {[]uint16{80}, []string{"10.2.0.1", "10.2.0.2"}},
		"unknown": {[]uint16{80}, []string{"10.2.0.2"}},
		"db":      {[]uint16{80}, []string{"10.2.0.1"}},
	} {
		svc := s.Service(federation.ServiceKey{Namespace: "shop", Name: name})
		if got := resources.Exposed(s, svc, "green"); !slices.Equal(got, tt.ports) {
			t.Errorf("%s: ports %v, want %v", name, got, tt.ports)
		}
		if got := behindGateway(t, s, svc); !slices.Equal(got, tt.want) {
			t.Errorf("%s: endpoints %v, want %v", name, got, tt.want)
		}
		if pods := resources.GatewayPods(s, svc, 80, "green"); len(pods) != len(tt.want) {
			t.Errorf("%s: pods %v", name, pods)
		}
	}
}

// Behind the gateways of a network of several clusters, pods of a drained one come
// last, and those of a returning one weigh less: who comes in by another's gateway
// must not end up there all the same.
func TestGatewayLeadsAwayFromADrain(t *testing.T) {
	for drain, want := range map[string]string{
		"":             "10.2.0.1 priority=0 weight=1, 10.2.0.2 priority=0 weight=1",
		"draining":     "10.2.0.1 priority=1 weight=1, 10.2.0.2 priority=0 weight=1",
		"returning=25": "10.2.0.1 priority=0 weight=1, 10.2.0.2 priority=0 weight=4",
	} {
		s := meshtest.Snapshot(t, `
cluster a network=green read drain=`+drain+`
cluster b network=green read
service echo.shop
  port 80 http
  export a 80/http
  export b 80/http
  endpoint a 10.2.0.1 pod=a-1 account=echo mtls 80:80
  endpoint b 10.2.0.2 pod=b-1 account=echo mtls 80:80
`)
		a := gatewayAssignment(t, s, s.Service(federation.ServiceKey{Namespace: "shop", Name: "echo"}))
		var got []string
		for _, l := range a.Endpoints {
			for _, e := range l.LbEndpoints {
				got = append(got, fmt.Sprintf("%s priority=%d weight=%d", e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress(), l.Priority, e.GetLoadBalancingWeight().GetValue()))
			}
		}
		slices.Sort(got)
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("%q: %s, want %s", drain, text, want)
		}
	}
}

func behindGateway(t *testing.T, s *federation.Snapshot, svc *federation.Service) []string {
	t.Helper()
	var out []string
	for _, l := range gatewayAssignment(t, s, svc).Endpoints {
		for _, e := range l.LbEndpoints {
			out = append(out, e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress())
		}
	}
	slices.Sort(out)
	return out
}

func gatewayAssignment(t *testing.T, s *federation.Snapshot, svc *federation.Service) *endpointv3.ClusterLoadAssignment {
	t.Helper()
	r, err := resources.NewGatewayEndpoints(s, svc, 80, "green")
	if err != nil {
		t.Fatal(err)
	}
	a := new(endpointv3.ClusterLoadAssignment)
	if err := r.Body.UnmarshalTo(a); err != nil {
		t.Fatal(err)
	}
	return a
}
