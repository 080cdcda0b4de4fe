//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
)

// A control plane that starts while the remote API server is away serves the remote's endpoints from
// its checkpoint: to proxies that were there, and to new ones.
func TestControlPlaneRestartsWhileRemoteIsDown(t *testing.T) {
	const ns, url = "cp-restart", "http://echo.cp-restart.svc.clusterset.local"
	caller := exportedEcho(t, ns, mesh.West)
	caller.Reaches(t, url, time.Minute, "west")
	mesh.East.WaitLink(t, "west", 30*time.Second, v1alpha1.LinkConnected)
	traffic := caller.Traffic(t, url, 20, 5*time.Minute)
	traffic.Flowing(20)

	mesh.Cut(t, "east", "west", "api", "refuse")
	mesh.East.deletePod(t, "isthmus-system", mesh.East.SystemPod(t, "isthmusd"))
	mesh.East.SystemPod(t, "isthmusd")
	mesh.East.WaitLink(t, "west", 45*time.Second, v1alpha1.LinkStale)
	mesh.East.Imported(t, ns, "echo")
	traffic.Flowing(100)

	t.Run("a new proxy too", func(t *testing.T) {
		mesh.East.ApplyYAML(t, ns, "apiVersion: v1\nkind: Pod\nmetadata: {name: late, labels: {app: late}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers: [{name: client, image: 'isthmus-mesh/isthmus-samples:dev', args: [idle]}]\n")
		mesh.East.Ready(t, ns, "app=late", 1)
		late := &Caller{cluster: mesh.East, namespace: ns, pod: "late", box: "client"}
		late.Reaches(t, url, 30*time.Second, "west")
	})
	mesh.Heal(t)
	mesh.East.WaitLink(t, "west", time.Minute, v1alpha1.LinkConnected)
	traffic.Flowing(20)
	if lost := failures(traffic.Stop()); lost != "" {
		t.Error(lost)
	}
}

// A proxy that restarts while its control plane is down serves with what it kept in the pod's memory.
func TestProxyRestartsWhileControlPlaneIsDown(t *testing.T) {
	const ns, url = "proxy-restart", "http://echo.proxy-restart.svc.clusterset.local"
	caller := exportedEcho(t, ns, mesh.West)
	before := caller.Reaches(t, url, time.Minute, "west")

	t.Cleanup(func() { mesh.East.scaleSystem(context.Background(), "isthmusd", 1) }) //nolint:errcheck // Ready below tells
	if err := mesh.East.scaleSystem(t.Context(), "isthmusd", 0); err != nil {
		t.Fatal(err)
	}
	mesh.East.Ready(t, "isthmus-system", "app=isthmusd", 0)
	quitProxy(t, caller)
	after := caller.Reaches(t, url, time.Minute, "west")
	if fmt.Sprint(after.Callers) != fmt.Sprint(before.Callers) {
		t.Errorf("the server saw %v, before %v", after.Callers, before.Callers)
	}
	if err := mesh.East.scaleSystem(t.Context(), "isthmusd", 1); err != nil {
		t.Fatal(err)
	}
	mesh.East.SystemPod(t, "isthmusd")
	mesh.East.WaitLink(t, "west", time.Minute, v1alpha1.LinkConnected)
}

func (c *Cluster) scaleSystem(ctx context.Context, name string, n int) error {
	_, err := c.Kube.AppsV1().Deployments("isthmus-system").Patch(ctx, name, "application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n), metav1.PatchOptions{})
	return err
}

// quitProxy ends the sidecar of a caller's pod and waits until kubelet has started it again.
func quitProxy(t *testing.T, c *Caller) {
	t.Helper()
	addr := c.cluster.Forward(t, c.namespace, c.pod, 15000)
	starts := c.proxyStarts(t)
	post(t, "http://"+addr+"/quitquitquit")
	Eventually(t, time.Minute, "the sidecar runs again", func(ctx context.Context) error {
		if n := c.proxyStarts(t); n <= starts {
			return fmt.Errorf("it was started %d times, as before", n)
		}
		return nil
	})
	c.cluster.Ready(t, c.namespace, "app=client", 1)
}

func (c *Caller) proxyStarts(t *testing.T) int32 {
	t.Helper()
	pod, err := c.cluster.Kube.CoreV1().Pods(c.namespace).Get(t.Context(), c.pod, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range pod.Status.InitContainerStatuses {
		if s.Name == "isthmus-proxy" {
			return s.RestartCount
		}
	}
	t.Fatal("the pod has no sidecar")
	return 0
}
