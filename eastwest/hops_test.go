package eastwest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/eastwest"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/meshtest"
)

// What a proxy of each cluster sees in place of the endpoints.
func TestHops(t *testing.T) {
	meshtest.Golden(t, "testdata/hops/*.txtar", func(t *testing.T, mesh string) map[string]string {
		s := meshtest.Snapshot(t, mesh)
		out := map[string]string{}
		for _, c := range s.Clusters() {
			var b strings.Builder
			for svc := range s.Services() {
				if svc.Key.ClusterSet() || svc.Key.Cluster == c.Name {
					describe(&b, svc, c, s)
				}
			}
			out[string(c.Name)] = b.String()
		}
		return out
	})
}

func describe(b *strings.Builder, svc *federation.Service, c *federation.Cluster, s *federation.Snapshot) {
	view := eastwest.View{Cluster: c.Name, Network: c.Network, MTLS: true}
	if svc.SameZone {
		view.Zone = "a"
	}
	for _, port := range svc.Ports {
		hops := eastwest.Hops(svc, port.Number, view, s)
		if len(hops) == 0 {
			fmt.Fprintf(b, "%s.%s:%d nobody\n", svc.Key.Name, svc.Key.Namespace, port.Number)
		}
		for _, h := range hops {
			fmt.Fprintf(b, "%s.%s:%d priority=%d %s %s\n", svc.Key.Name, svc.Key.Namespace, port.Number, h.Priority, h.Addr, words(h))
		}
	}
}

func words(h eastwest.Hop) string {
	out := "pod=" + h.Pod
	if h.Weight != 1 {
		out += fmt.Sprintf(" weight=%d", h.Weight)
	}
	if h.Gateway {
		out = fmt.Sprintf("gateway network=%s weight=%d", h.Network, h.Weight)
	}
	if h.Tunnel == federation.TunnelNone {
		out += " plaintext"
	}
	return out
}

// A proxy that does not speak mTLS is sent nothing that needs it.
func TestHopsWithoutMTLS(t *testing.T) {
	s := meshtest.Snapshot(t, `
cluster east network=blue
cluster west network=green gateways=192.0.2.7:15443
service echo.shop
  port 80 http
  endpoint east 10.1.0.1 pod=plain 80:8080
  endpoint east 10.1.0.2 pod=meshed account=echo mtls 80:8080
  endpoint west 10.2.0.1 pod=far account=echo mtls 80:8080
`)
	svc := s.Service(federation.ServiceKey{Namespace: "shop", Name: "echo"})
	hops := eastwest.Hops(svc, 80, eastwest.View{Cluster: "east", Network: "blue"}, s)
	if len(hops) != 1 || hops[0].Pod != "plain" {
		t.Errorf("hops: %+v", hops)
	}
}
