package ads_test

import (
	"slices"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"

	"github.com/isthmus-mesh/isthmus/internal/meshtest"
)

// A stream is given only the configuration of the identity that it proved.
func TestIdentity(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	claim := func(key, value string) who {
		w := web()
		w.say = map[string]string{key: value}
		return w
	}
	for name, tt := range map[string]struct {
		who  who
		want codes.Code
	}{
		"no proof":             {who{say: map[string]string{"NAMESPACE": "shop"}}, codes.Unauthenticated},
		"another namespace":    {claim("NAMESPACE", "bank"), codes.PermissionDenied},
		"another account":      {claim("SERVICE_ACCOUNT", "admin"), codes.PermissionDenied},
		"another cluster":      {claim("CLUSTER_ID", "west"), codes.PermissionDenied},
		"another pod":          {claim("POD_NAME", "web-2"), codes.PermissionDenied},
		"a workload's gateway": {claim("PROXY_TYPE", "east-west"), codes.PermissionDenied},
		"a workload's entry":   {claim("PROXY_TYPE", "entry"), codes.PermissionDenied},
		"a gateway's entry":    {who{namespace: "isthmus-system", account: "isthmus-eastwest", cluster: "east", say: map[string]string{"PROXY_TYPE": "entry"}}, codes.PermissionDenied},
		"an entry's gateway":   {who{namespace: "isthmus-system", account: "isthmus-entry", cluster: "east", say: map[string]string{"PROXY_TYPE": "east-west"}}, codes.PermissionDenied},
		"the name elsewhere":   {who{namespace: "shop", account: "isthmus-entry", cluster: "east", say: map[string]string{"PROXY_TYPE": "entry"}}, codes.PermissionDenied},
		"an unknown type":      {claim("PROXY_TYPE", "api"), codes.InvalidArgument},
		"no cluster proved":    {who{namespace: "shop", account: "web"}, codes.PermissionDenied},
	} {
		t.Run(name, func(t *testing.T) {
			c := b.delta(t, tt.who)
			c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
			if got := c.end(); got != tt.want {
				t.Errorf("ended with %v, want %v", got, tt.want)
			}
		})
	}
}

// A pod of the same account that says it is another pod gets that pod's inbound
// side only if the mesh knows the pod under the same identity.
func TestInboundNeedsTheSameIdentity(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	thief := who{namespace: "shop", account: "thief", cluster: "east", say: map[string]string{"POD_NAME": "web-1"}}
	c := b.delta(t, thief)
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: lds})
	if got := names(c.expect(lds)); slices.Contains(got, "inbound") {
		t.Errorf("sent %v", got)
	}
}

// A gateway is sent the exported ports of its own network and nothing else.
func TestGateway(t *testing.T) {
	b := start(t, nil)
	b.Update(meshtest.Snapshot(t, twoClusters))
	const name = "p9081.ratings.shop.sni.isthmus.internal"
	c := b.delta(t, gateway("west"))
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	if got := names(c.expect(cds)); !slices.Equal(got, []string{name}) {
		t.Errorf("xds clusters %v", got)
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{name, ratings}})
	m := c.expect(eds)
	if got := names(m); !slices.Equal(got, []string{name}) || !slices.Equal(m.RemovedResources, []string{ratings}) {
		t.Errorf("load assignments %v, removed %v", got, m.RemovedResources)
	}
	if body := string(m.Resources[0].Resource.Value); !strings.Contains(body, "10.2.0.4") || strings.Contains(body, "192.0.2.") {
		t.Errorf("load assignment: %q", body)
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: lds})
	if got := names(c.expect(lds)); !slices.Equal(got, []string{"east-west"}) {
		t.Errorf("listeners %v", got)
	}

	// East exports nothing: its gateway is told so, since its start waits for it.
	e := b.delta(t, gateway("east"))
	e.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	if got := names(e.expect(cds)); len(got) != 0 {
		t.Errorf("east's gateway was sent %v", got)
	}
}
