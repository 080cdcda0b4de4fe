package eastwest_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/eastwest"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/meshtest"
)

// Callers of a cluster that returns give it exactly its share of what it had all
// of, and the more the higher that is; nobody is left out, and no sum is more than
// 32 bits hold, whatever stands on either side.
func TestReturnsByShare(t *testing.T) {
	for _, tt := range []struct{ own, ready, gateways, north int }{
		{1, 1, 1, 0}, {2, 3, 1, 0}, {7, 1, 3, 5}, {1, 900, 64, 4}, {40, 4_000_000_000, 1, 0}, {1, 4_000_000_000, 64, 200_000_000},
	} {
		before := -1.0
		for _, share := range []int{1, 10, 25, 50, 75, 99} {
			s := meshtest.Snapshot(t, returningMesh(tt.own, tt.ready, tt.gateways, tt.north, share))
			svc := s.Service(federation.ServiceKey{Namespace: "shop", Name: "echo"})
			own, all := 0.0, 0.0
			for _, h := range eastwest.Hops(svc, 80, eastwest.View{Cluster: "west", Network: "green", MTLS: true}, s) {
				if h.Priority != 0 || h.Weight == 0 {
					t.Errorf("%+v, %d per cent: %s has priority %d, weight %d", tt, share, h.Addr, h.Priority, h.Weight)
				}
				if all += float64(h.Weight); !h.Gateway {
					own += float64(h.Weight)
				}
			}
			if got := 100 * own / all; math.Abs(got-float64(share)) > 0.5 || got <= before || all > math.MaxUint32 {
				t.Errorf("%+v: %d per cent give %.2f per cent (before %.2f) of %.0f", tt, share, got, before, all)
			} else {
				before = got
			}
		}
	}
}

func returningMesh(own, ready, gateways, north, share int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster west network=green read drain=returning=%d\n", share)
	b.WriteString("cluster east network=blue read" + gatewayWords("2", gateways, 0))
	b.WriteString("cluster north network=red read gateways=192.0.3.1:15443\n")
	b.WriteString("service echo.shop\n  port 80 http\n  account echo\n")
	for i := range own {
		fmt.Fprintf(&b, "  endpoint west 10.1.0.%d pod=own-%d account=echo mtls 80:80\n", i+1, i)
	}
	fmt.Fprintf(&b, "  count east 80 %d\n", ready)
	if north > 0 {
		fmt.Fprintf(&b, "  count north 80 %d\n", north)
	}
	return b.String()
}

// In any mesh, with any drains, priorities have no gaps, every hop weighs
// something, nobody is left out who would be there without drains, and no drained
// pod or gateway comes before one that is not.
func TestDrainsLeaveNobodyOut(t *testing.T) {
	drains := []string{"", "", "drain=draining", "drain=returning=1", "drain=returning=40", "drain=returning=99"}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		var with, without strings.Builder
		drained := map[federation.ClusterName]bool{}
		endpoints := ""
		for i := range 5 {
			drain := drains[r.IntN(len(drains))]
			cluster := fmt.Sprintf("cluster c%d network=n%d region=r%d priority=%d read gateways=192.0.2.%d:15443%s", i, r.IntN(4), r.IntN(2), r.IntN(2), i+1, []string{"", "", "/silent"}[r.IntN(3)])
			fmt.Fprintln(&with, cluster, drain)
			fmt.Fprintln(&without, cluster)
			drained[federation.ClusterName(fmt.Sprintf("c%d", i))] = drain == "drain=draining"
			for p := range r.IntN(4) {
				endpoints += fmt.Sprintf("  endpoint c%d 10.%d.0.%d pod=p%d account=echo mtls 80:80\n", i, i, p+1, p)
			}
		}
		service := "service echo.shop\n  port 80 http\n" + endpoints
		s, plain := meshtest.Snapshot(t, with.String()+service), meshtest.Snapshot(t, without.String()+service)
		svc := s.Service(federation.ServiceKey{Namespace: "shop", Name: "echo"})
		for _, c := range s.Clusters() {
			view := eastwest.View{Cluster: c.Name, Network: c.Network, MTLS: true}
			hops := eastwest.Hops(svc, 80, view, s)
			checkHops(t, with.String()+service, hops, drained)
			if want := len(eastwest.Hops(svc, 80, view, plain)); len(hops) != want {
				t.Errorf("%d hops, without drains %d:\n%s%s", len(hops), want, with.String(), service)
			}
		}
		if t.Failed() {
			return
		}
	}
}

func checkHops(t *testing.T, mesh string, hops []eastwest.Hop, drained map[federation.ClusterName]bool) {
	t.Helper()
	last := false
	for i, h := range hops {
		step := h.Priority
		if i > 0 {
			step -= hops[i-1].Priority
		}
		if step > 1 || i == 0 && step > 0 || h.Weight == 0 {
			t.Errorf("hop %d has priority %d, weight %d:\n%s", i, h.Priority, h.Weight, mesh)
		}
		if !h.Gateway && last && !drained[h.Cluster] {
			t.Errorf("pod %s of %s comes after what is drained:\n%s", h.Addr, h.Cluster, mesh)
		}
		last = last || drained[h.Cluster] && !h.Gateway
	}
}
