package watch

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
)

// A service exported by west appears in east's snapshot with its endpoint and
// identity, and leaves with the secret.
func TestExportOfAnotherClusterAppears(t *testing.T) {
	west := needWest(t)
	e, w := prepare(t, east, "net-east"), prepare(t, west, "net-west")
	workload{"shop", "reviews", "10.20.0.5", true, true}.create(t, w)
	r := start(t, nil)
	r.wait("first snapshot", func(s *federation.Snapshot) bool { return true })

	secret := remoteSecret(t, "west", readerConfig(t, west))
	must(t, e.Create(t.Context(), secret))
	key := federation.ServiceKey{Namespace: "shop", Name: "reviews"}
	s := r.wait("export of west", func(s *federation.Snapshot) bool {
		svc := s.Service(key)
		return svc != nil && len(svc.Endpoints) == 1 && svc.Endpoints[0].Health == federation.Ready
	})
	got := s.Service(key).Endpoints[0]
	if got.Cluster != "west" || got.Network != "net-west" || got.Tunnel != federation.TunnelMTLS || got.Account.String() != "spiffe://cluster.local/ns/shop/sa/app" {
		t.Errorf("endpoint %+v", got)
	}
	if target, ok := got.Target(9080); !ok || target != 8080 {
		t.Errorf("target %d", target)
	}
	if err := r.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	must(t, e.Delete(t.Context(), secret))
	r.wait("west gone", func(s *federation.Snapshot) bool { return s.Service(key) == nil && s.Cluster("west") == nil })
}
