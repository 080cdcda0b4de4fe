//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A remote goes on serving when its primary's control plane is lost: calls within it and into it lose no request. New
// pods wait, by design: nobody could give them a sidecar. They start when the control plane is back.
func TestRemoteGoesOnWithoutItsPrimary(t *testing.T) {
	mesh.Needs(t, WestIsRemote)
	const ns, url = "primary-lost", "http://echo.primary-lost.svc.clusterset.local"
	far := exportedEcho(t, ns, mesh.West)
	near := NewCaller(t, mesh.West, ns)
	far.Reaches(t, url, time.Minute, "west")
	near.Reaches(t, url, time.Minute, "west")
	into, within := far.Traffic(t, url, 50, 5*time.Minute), near.Traffic(t, url, 50, 5*time.Minute)
	into.Flowing(50)

	t.Cleanup(func() { mesh.East.scaleSystem(context.Background(), "isthmusd", 1) }) //nolint:errcheck // SystemPod below tells
	if err := mesh.East.scaleSystem(t.Context(), "isthmusd", 0); err != nil {
		t.Fatal(err)
	}
	mesh.East.Ready(t, "isthmus-system", "app=isthmusd", 0)
	mesh.West.ApplyYAML(t, ns, lateClient)
	mesh.West.waits(t, ns, "late")
	into.Flowing(300)
	within.Flowing(300)
	for what, traffic := range map[string]*Load{"from east": into, "within west": within} {
		if lost := failures(traffic.Stop()); lost != "" {
			t.Errorf("%s: %s", what, lost)
		}
	}

	if err := mesh.East.scaleSystem(t.Context(), "isthmusd", 1); err != nil {
		t.Fatal(err)
	}
	mesh.East.SystemPod(t, "isthmusd")
	pod := mesh.West.Ready(t, ns, "app=late", 1)[0]
	late := &Caller{cluster: mesh.West, namespace: ns, pod: pod.Name, box: "client"}
	if s := late.Reaches(t, url, time.Minute, "west"); !slices.Equal(s.Callers, []string{"spiffe://cluster.local/ns/" + ns + "/sa/default"}) {
		t.Errorf("the server saw callers %v", s.Callers)
	}
}

// A Deployment without a service account of its own, so that it is not the client's.
const lateClient = `apiVersion: apps/v1
kind: Deployment
metadata: {name: late}
spec:
  selector: {matchLabels: {app: late}}
  template:
    metadata: {labels: {app: late}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: client, image: 'isthmus-mesh/isthmus-samples:dev', args: [idle]}]
`

// waits waits until a Deployment says that it cannot make pods because of the webhook.
func (c *Cluster) waits(t *testing.T, namespace, name string) {
	t.Helper()
	Eventually(t, time.Minute, c.Name+": "+name+" waits for the webhook", func(ctx context.Context) error {
		d, err := c.Kube.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range d.Status.Conditions {
			if condition.Type == "ReplicaFailure" && strings.Contains(condition.Message, "webhook") {
				return nil
			}
		}
		return fmt.Errorf("conditions %v", d.Status.Conditions)
	})
}

// What a primary's gateway lets through for its remotes is isthmusd, by exactly the remote's name on 15012, and its webhook,
// by exactly the Service's name on 15017; each proves to be it.
func TestPrimaryLetsOnlyRemotesThrough(t *testing.T) {
	mesh.Needs(t, WestIsRemote)
	gateway := mesh.East.SystemPod(t, "isthmus-eastwest")
	discovery := mesh.East.Forward(t, "isthmus-system", gateway, 15012)
	webhook := mesh.East.Forward(t, "isthmus-system", gateway, 15017)
	peer, _ := hello(t, discovery, "west.clusters.isthmus.internal", "h2")
	if peer == nil || len(peer.URIs) != 1 || peer.URIs[0].String() != "spiffe://cluster.local/ns/isthmus-system/sa/isthmusd" ||
		!slices.Equal(peer.DNSNames, []string{"west.clusters.isthmus.internal"}) {
		t.Errorf("discovery: the far end is not west's control plane: %+v", peer)
	}
	peer, _ = hello(t, webhook, "isthmusd.isthmus-system.svc", "h2")
	if peer == nil || !slices.Contains(peer.DNSNames, "isthmusd.isthmus-system.svc") {
		t.Errorf("webhook: the far end is not the webhook: %+v", peer)
	}
	for name, refused := range map[string]struct{ addr, sni string }{
		"the primary's own name":     {discovery, "east.clusters.isthmus.internal"},
		"no remote's name":           {discovery, "nobody.clusters.isthmus.internal"},
		"below a remote's name":      {discovery, "a.west.clusters.isthmus.internal"},
		"the Service's name":         {discovery, "isthmusd.isthmus-system.svc"},
		"no name":                    {discovery, ""},
		"the webhook by a remote's":  {webhook, "west.clusters.isthmus.internal"},
		"the webhook by a full name": {webhook, "isthmusd.isthmus-system.svc.cluster.local"},
		"the webhook without a name": {webhook, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if peer, err := hello(t, refused.addr, refused.sni, "h2"); peer != nil || err == nil {
				t.Errorf("%q was passed on", refused.sni)
			}
		})
	}
}

// A remote may have a second primary: one at a time writes there, by a Lease in the remote, and when the first is lost the
// other injects, configures and signs. Nobody restarts for it.
func TestSecondPrimary(t *testing.T) {
	mesh.Needs(t, WestIsRemote, NorthIsPrimary)
	const ns, url = "second-primary", "http://echo.second-primary.svc.clusterset.local"
	mesh.Cleanup(t, mesh.LinkArgs()...)
	mesh.Cleanup(t, mesh.InstallArgs(mesh.West)...)
	mesh.Cleanup(t, "uninstall", "west")
	mesh.CLI(t, mesh.install([]string{"west", "--primary", "north"})...)
	caller := exportedEcho(t, ns, mesh.West)
	caller.Reaches(t, url, time.Minute, "west")
	if holder := mesh.West.leader(t); !strings.HasPrefix(holder, "east/") {
		t.Fatalf("%s leads in west before east's control plane is lost", holder)
	}
	traffic := caller.Traffic(t, url, 50, 5*time.Minute)
	traffic.Flowing(50)

	t.Cleanup(func() { mesh.East.scaleSystem(context.Background(), "isthmusd", 1) }) //nolint:errcheck // SystemPod below tells
	if err := mesh.East.scaleSystem(t.Context(), "isthmusd", 0); err != nil {
		t.Fatal(err)
	}
	Eventually(t, 2*time.Minute, "north's control plane leads in west", func(context.Context) error {
		if holder := mesh.West.leader(t); !strings.HasPrefix(holder, "north/") {
			return fmt.Errorf("%s leads", holder)
		}
		return nil
	})
	mesh.West.ApplyYAML(t, ns, lateClient)
	pod := mesh.West.Ready(t, ns, "app=late", 1)[0]
	late := &Caller{cluster: mesh.West, namespace: ns, pod: pod.Name, box: "client"}
	late.Reaches(t, url, time.Minute, "west")
	if lost := failures(traffic.Stop()); lost != "" {
		t.Error(lost)
	}
	if err := mesh.East.scaleSystem(t.Context(), "isthmusd", 1); err != nil {
		t.Fatal(err)
	}
	mesh.East.SystemPod(t, "isthmusd")
}
