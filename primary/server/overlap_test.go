package server

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
)

func TestSyntheticOverlap(t *testing.T) {
	r := netip.MustParsePrefix("240.241.0.0/16")
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	cluster := func(name, network string, inside ...netip.Prefix) *federation.Cluster {
		return &federation.Cluster{Name: federation.ClusterName(name), Network: federation.NetworkName(network), Inside: inside}
	}
	key := federation.ServiceKey{Namespace: "shop", Name: "web"}
	for name, c := range map[string]struct {
		inside []netip.Prefix
		svc    federation.Service
		says   string
	}{
		"none":                       {inside: []netip.Prefix{prefix("10.1.0.0/16"), prefix("fd00::/64")}},
		"pods' range within":         {inside: []netip.Prefix{prefix("240.241.3.0/24")}, says: "240.241.3.0/24, where its pods and nodes are"},
		"pods' range around":         {inside: []netip.Prefix{prefix("240.0.0.0/8")}, says: "240.0.0.0/8"},
		"a service":                  {svc: federation.Service{VIPs: []federation.VIP{{Cluster: "east", Addr: addr("240.241.9.9")}}}, says: "240.241.9.9, the address of service web.shop.svc.clusterset.local"},
		"a service elsewhere":        {svc: federation.Service{VIPs: []federation.VIP{{Cluster: "west", Addr: addr("240.241.9.9")}}}},
		"a pod of the same network":  {svc: federation.Service{Endpoints: []federation.Endpoint{{Cluster: "twin", Network: "n1", Addr: addr("240.241.9.9")}}}, says: "in cluster twin"},
		"a pod of another network":   {svc: federation.Service{Endpoints: []federation.Endpoint{{Cluster: "west", Network: "n2", Addr: addr("240.241.9.9")}}}},
		"what stands for pods there": {svc: federation.Service{Synthetic: []federation.Synthetic{{In: "east", Of: "west", Pod: "db-0", Addr: addr("240.241.9.9")}}}},
	} {
		c.svc.Key = key
		s := federation.NewSnapshot(federation.Parts{
			Clusters: map[federation.ClusterName]*federation.Cluster{"east": cluster("east", "n1", c.inside...), "west": cluster("west", "n2")},
			Services: map[federation.ServiceKey]*federation.Service{key: &c.svc},
		})
		got := syntheticOverlap(s, "east", r)
		if (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q, want %q", name, got, c.says)
		}
	}
}

// It is logged as an error when it begins, once, and shown while it lasts.
func TestOverlapIsTold(t *testing.T) {
	var log bytes.Buffer
	o := &overlap{cluster: "east", log: slog.New(slog.NewTextHandler(&log, nil))}
	if len(o.problem()) != 0 {
		t.Error("a problem from the beginning")
	}
	for range 2 {
		o.note("both hold 240.241.9.9")
	}
	if got := o.problem(); len(got) != 1 || got[0].Reason != "SyntheticRangeOverlaps" || got[0].Message != "both hold 240.241.9.9" {
		t.Errorf("problems: %+v", got)
	}
	if text := log.String(); strings.Count(text, "level=ERROR") != 1 || !strings.Contains(text, "240.241.9.9") {
		t.Errorf("log: %s", text)
	}
	o.note("")
	if len(o.problem()) != 0 || !strings.Contains(log.String(), "no other use any more") {
		t.Errorf("after its end: %+v, %s", o.problem(), log.String())
	}
}

// What was compared once is not walked again; what is new is.
func TestOverlapLooksOnce(t *testing.T) {
	r := netip.MustParsePrefix("240.241.0.0/16")
	world := func(inside string) *federation.Snapshot {
		return federation.NewSnapshot(federation.Parts{Clusters: map[federation.ClusterName]*federation.Cluster{
			"east": {Name: "east", Inside: []netip.Prefix{netip.MustParsePrefix(inside)}},
		}})
	}
	s := world("240.241.3.0/24")
	o := &overlap{cluster: "east", synthetic: r, latest: func() *federation.Snapshot { return s }, log: slog.New(slog.DiscardHandler)}
	o.look()
	if o.Message() == "" {
		t.Fatal("not found")
	}
	o.synthetic = netip.MustParsePrefix("240.250.0.0/16") // as it never does: to see whether it looks
	if o.look(); o.Message() == "" {
		t.Error("the same snapshot was walked again")
	}
	if s = world("240.241.3.0/24"); o.Message() == "" {
		t.Error("forgotten")
	}
	if o.look(); o.Message() != "" {
		t.Errorf("another snapshot was not walked: %s", o.Message())
	}
}
