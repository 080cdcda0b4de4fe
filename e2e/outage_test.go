//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
)

// Cut takes something of one cluster away from another until the test ends or Heal.
func (m *Mesh) Cut(t *testing.T, from, to, what, mode string) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := m.ground.heal(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := m.ground.cut(t.Context(), from, to, what, mode); err != nil {
		t.Fatal(err)
	}
}

// Heal ends all cuts.
func (m *Mesh) Heal(t *testing.T) {
	t.Helper()
	if err := m.ground.heal(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// The remote API server refuses: its endpoints stay in use, no request fails, and the
// link says that it is stale and since when; it comes back by itself.
func TestRemoteAPIServerLost(t *testing.T) {
	mesh.Needs(t, Time)
	remoteAPIServer(t, "api-lost", "refuse")
}

// The remote API server swallows packets, so that every open watch looks healthy: the link
// says so within 30 s all the same.
func TestRemoteAPIServerBlackHoled(t *testing.T) {
	mesh.Needs(t, Time)
	remoteAPIServer(t, "api-black-holed", "drop")
}

func remoteAPIServer(t *testing.T, ns, mode string) {
	url := "http://echo." + ns + ".svc.clusterset.local"
	caller := exportedEcho(t, ns, mesh.West)
	caller.Reaches(t, url, time.Minute, "west")
	mesh.East.WaitLink(t, "west", 30*time.Second, v1alpha1.LinkConnected)
	traffic := caller.Traffic(t, url, 20, 5*time.Minute)
	traffic.Flowing(20)

	begin := time.Now()
	mesh.Cut(t, "east", "west", "api", mode)
	link := mesh.East.WaitLink(t, "west", 30*time.Second, v1alpha1.LinkStale)
	if link.Status.Since == nil || link.Status.Since.Time.Before(begin.Add(-15*time.Second)) || link.Status.Since.After(time.Now().Add(time.Second)) {
		t.Errorf("stale since %v, cut at %v", link.Status.Since, begin)
	}
	if link.Status.LastReachable == nil || link.Status.LastReachable.After(time.Now()) {
		t.Errorf("last reachable %v", link.Status.LastReachable)
	}
	traffic.Flowing(100)
	mesh.East.Imported(t, ns, "echo")

	mesh.Heal(t)
	mesh.East.WaitLink(t, "west", time.Minute, v1alpha1.LinkConnected)
	traffic.Flowing(20)
	if lost := failures(traffic.Stop()); lost != "" {
		t.Error(lost)
	}
	t.Run("and what changes there is seen again", func(t *testing.T) {
		mesh.West.Scale(t, ns, "echo-v1", 2)
		Eventually(t, 30*time.Second, "both pods answer", func(ctx context.Context) error {
			s, err := caller.Call(ctx, url, 40, "--new-connections")
			if err == nil && len(s.Pods) != 2 {
				err = fmt.Errorf("answers from %v, errors %v", s.Pods, s.Errors)
			}
			return err
		})
	})
}

// A lost gateway is out of use at once: while it is silent the link says so, callers are told
// quickly instead of waiting, own pods are not affected, and it is used again when it answers.
func TestGatewayLost(t *testing.T) {
	mesh.Needs(t, SeparateNetworks)
	const ns = "gateway-lost"
	for _, mode := range []string{"refuse", "drop"} {
		t.Run(mode, func(t *testing.T) {
			caller := exportedEcho(t, ns+"-"+mode, mesh.West)
			url := "http://echo." + ns + "-" + mode + ".svc.clusterset.local"
			caller.Reaches(t, url, time.Minute, "west")
			mesh.East.WaitLink(t, "west", time.Minute, v1alpha1.LinkConnected)
			mesh.Cut(t, "east", "west", "gateway", mode)
			link := mesh.East.WaitLink(t, "west", 10*time.Second, v1alpha1.LinkDegraded)
			for _, g := range link.Status.Gateways {
				if g.Answers || g.Since == nil {
					t.Errorf("gateway %s: answers=%v since %v", g.Address, g.Answers, g.Since)
				}
			}
			caller.Fails(t, url, 20*time.Second)

			mesh.East.Apply(t, ns+"-"+mode, echoFile)
			mesh.East.ApplyYAML(t, ns+"-"+mode, exportOf("echo"))
			mesh.East.Ready(t, ns+"-"+mode, "app=echo", 1)
			caller.Reaches(t, url, 30*time.Second, "east")

			mesh.Heal(t)
			mesh.East.WaitLink(t, "west", time.Minute, v1alpha1.LinkConnected)
			mesh.East.Scale(t, ns+"-"+mode, "echo-v1", 0)
			caller.Reaches(t, url, 30*time.Second, "west")
		})
	}
}

// Of two clusters that serve, one loses its gateway: packets to it vanish. Whatever begins two seconds later is
// answered, all of it by the other cluster; when the gateway is back both serve again.
func TestGatewayLostWhileAnotherServes(t *testing.T) {
	mesh.Needs(t, ThirdCluster, SeparateNetworks)
	const ns, url = "gateway-other", "http://echo.gateway-other.svc.clusterset.local"
	mesh.North.Namespace(t, ns, true)
	caller := exportedEcho(t, ns, mesh.West, mesh.North)
	caller.Reaches(t, url, time.Minute, "west", "north")
	mesh.East.WaitLink(t, "west", time.Minute, v1alpha1.LinkConnected)
	mesh.East.WaitLink(t, "north", time.Minute, v1alpha1.LinkConnected)
	traffic := caller.Traffic(t, url, 50, 5*time.Minute)
	traffic.Flowing(50)

	mesh.Cut(t, "east", "west", "gateway", "drop")
	cut := time.Now()
	answeredBy(t, traffic, "north", 20*time.Second)
	mesh.East.WaitLink(t, "west", 20*time.Second, v1alpha1.LinkDegraded)
	traffic.Flowing(150)
	later := traffic.Since(cut.Add(2 * time.Second))
	if lost := failures(later); lost != "" {
		t.Errorf("of what began 2 s after the cut or later, %s", lost)
	}
	t.Logf("of what began in the two seconds after the cut: %s", cmp.Or(failures(begun(traffic.Records(), cut, cut.Add(2*time.Second))), "none failed"))

	mesh.Heal(t)
	mesh.East.WaitLink(t, "west", time.Minute, v1alpha1.LinkConnected)
	healed := time.Now()
	Eventually(t, 30*time.Second, "west answers again", func(context.Context) error {
		for _, r := range traffic.Since(healed) {
			if r.OK() && r.Cluster == "west" {
				return nil
			}
		}
		return fmt.Errorf("none of %d", len(traffic.Since(healed)))
	})
	if lost := failures(begun(traffic.Stop(), cut.Add(2*time.Second), time.Now())); lost != "" {
		t.Error(lost)
	}
}
