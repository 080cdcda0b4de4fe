//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"fmt"
	"testing"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/drill"
)

// Of two isthmusd and two gateways one goes at a time, as when nodes are drained and in an upgrade, and no request fails; where one
// dies, none fails that begins 2 s later or after. The other isthmusd leads on. A drill breaks both gateways.
func TestReplicas(t *testing.T) {
	mesh.Needs(t, SeparateNetworks, Time)
	const ns, url = "replicas", "http://echo.replicas.svc.clusterset.local"
	caller := exportedEcho(t, ns, mesh.West)
	caller.Reaches(t, url, time.Minute, "west")
	install := func(ctx context.Context, replicas int, tag string) error {
		return mesh.Install(ctx, "--set", fmt.Sprintf("controlPlane.replicas=%d,gateway.replicas=%[1]d", replicas), "--tag", tag, "--timeout", "4m")
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		if err := install(ctx, 1, "dev"); err != nil {
			t.Error(err)
		}
	})
	if err := install(t.Context(), 2, "dev"); err != nil {
		t.Fatal(err)
	}

	traffic := caller.Traffic(t, url, 100, 10*time.Minute)
	traffic.Flowing(200)
	t.Run("gateways drained", func(t *testing.T) { mesh.West.evictBoth(t, "isthmus-eastwest") })
	t.Run("isthmusd drained", func(t *testing.T) {
		mesh.East.evictBoth(t, "isthmusd")
		exportedEcho(t, "replicas-after", mesh.West)
		mesh.East.Imported(t, "replicas-after", "echo") // who leads writes imports
	})
	t.Run("upgraded", func(t *testing.T) {
		if err := install(t.Context(), 2, "next"); err != nil {
			t.Fatal(err)
		}
		for _, c := range mesh.Clusters() {
			c.onlyTag(t, "next", 2)
		}
	})
	traffic.Flowing(200)
	if lost := failures(traffic.Stop()); lost != "" {
		t.Error(lost)
	}

	t.Run("one of two killed", func(t *testing.T) {
		mesh.Needs(t, Root)
		traffic := caller.Traffic(t, url, 100, 5*time.Minute)
		traffic.Flowing(200)
		mesh.West.killOneOfTwo(t, "isthmus-eastwest", "\x00gateway\x00", traffic)
		mesh.East.killOneOfTwo(t, "isthmusd", "isthmusd\x00", traffic)
	})
	t.Run("drill", func(t *testing.T) {
		mesh.East.WaitLink(t, "west", time.Minute, v1alpha1.LinkConnected)
		const drilledNS = "replicas-drill"
		serve(t, drilledNS, others(t, drilledNS))
		// forced, since the service above is west's alone
		d := drilled{scenario: drill.ScenarioGatewayRefuse, flags: []string{"--remote", "west", "--means", "mesh", "--force"}, lossless: true, noticed: true}
		d.judge(t, runDrill(t, d, drilledNS, drillAccount(t, drilledNS)))
	})
}

// evictBoth has one of an app's two pods after the other go as kubectl drain would; while the first is being replaced
// the second is refused.
func (c *Cluster) evictBoth(t *testing.T, app string) {
	t.Helper()
	evict := func(ctx context.Context, pod string) error {
		return c.Kube.CoreV1().Pods("isthmus-system").EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod, Namespace: "isthmus-system"}})
	}
	pods := c.Ready(t, "isthmus-system", "app="+app, 2)
	for i, p := range pods {
		Eventually(t, 2*time.Minute, "the budget lets "+p.Name+" go", func(ctx context.Context) error { return evict(ctx, p.Name) })
		if i == 0 {
			if err := evict(t.Context(), pods[1].Name); !apierrors.IsTooManyRequests(err) {
				t.Errorf("both pods of %s may go at once: %v", app, err)
			}
		}
	}
}

// killOneOfTwo sends SIGKILL to one of an app's two pods: by its name and a part of its command line.
func (c *Cluster) killOneOfTwo(t *testing.T, app, command string, traffic *Load) {
	t.Helper()
	victim := c.Ready(t, "isthmus-system", "app="+app, 2)[0]
	begin := time.Now()
	killProcess(t, "POD_NAME="+victim.Name, command)
	traffic.Flowing(500)
	c.Ready(t, "isthmus-system", "app="+app, 2)
	t.Logf("after one %s of two was killed: %s", app, cmp.Or(failures(traffic.Since(begin)), "no request failed"))
	if lost := failures(traffic.Since(begin.Add(2 * time.Second))); lost != "" {
		t.Error(lost)
	}
}
