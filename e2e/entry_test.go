//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/api"
)

const entryIdentity = "spiffe://cluster.local/ns/isthmus-system/sa/isthmus-entry"

// bareCaller is a pod of east without a sidecar, in a namespace of its own.
func bareCaller(t *testing.T, namespace string) *Caller {
	t.Helper()
	mesh.East.Namespace(t, namespace, false)
	return NewCaller(t, mesh.East, namespace)
}

// importedSlices returns the slices of one source cluster of an import, by name.
func (c *Cluster) importedSlices(ctx context.Context, namespace, name, source string) ([]discoveryv1.EndpointSlice, error) {
	list, err := c.Kube.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{
		LabelSelector: "multicluster.kubernetes.io/service-name=" + name + ",multicluster.kubernetes.io/source-cluster=" + source,
	})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// A pod without a sidecar reaches a service of another cluster by its clusterset name: one of another network through
// the entry gateway, whose identity is then what the called one sees; one of its own network directly, as a stranger
// (mcs.md §5).
func TestWithoutSidecar(t *testing.T) {
	t.Parallel()
	const ns, host = "entry", "echo.entry.svc.clusterset.local"
	meshed := exportedEcho(t, ns, mesh.West)
	bare := bareCaller(t, ns+"-bare")
	s := bare.Reaches(t, "http://"+host, time.Minute, "west")
	var want []string
	if mesh.East.Network != mesh.West.Network {
		want = []string{entryIdentity}
	}
	if !slices.Equal(s.Callers, want) {
		t.Errorf("the server saw callers %v, want %v", s.Callers, want)
	}
	for name, url := range map[string]string{
		"TCP":                 "tcp://" + host + ":9090",
		"server speaks first": "banner://" + host + ":9091",
		"gRPC":                "grpc://" + host + ":7070",
		"protocol not told":   "http://" + host + ":8081",
	} {
		t.Run(name, func(t *testing.T) { bare.Reaches(t, url, 30*time.Second, "west") })
	}
	t.Run("many connections", func(t *testing.T) {
		s, err := bare.Call(t.Context(), "http://"+host, 300, "--new-connections", "--rate", "150")
		if err != nil || s.Failed > 0 {
			t.Errorf("%d of %d failed: %v %v", s.Failed, s.Requests, s.Errors, err)
		}
	})
	t.Run("the slice holds no pod of the other network", func(t *testing.T) {
		mesh.Needs(t, SeparateNetworks)
		holdsOnlyEntry(t, ns, "echo")
	})
	t.Run("a meshed pod keeps its own identity", func(t *testing.T) {
		s := meshed.Reaches(t, "http://"+host, 30*time.Second, "west")
		if want := []string{"spiffe://cluster.local/ns/" + ns + "/sa/client"}; !slices.Equal(s.Callers, want) {
			t.Errorf("the server saw callers %v, want %v", s.Callers, want)
		}
	})
}

// holdsOnlyEntry looks at west's slices in east: entry gateway addresses, one port each of its range.
func holdsOnlyEntry(t *testing.T, ns, name string) {
	t.Helper()
	list, err := mesh.East.importedSlices(t.Context(), ns, name, "west")
	if err != nil || len(list) == 0 {
		t.Fatalf("%d slices: %v", len(list), err)
	}
	entry := mesh.East.Ready(t, "isthmus-system", "app="+api.EntryName, 1)[0].Status.PodIP
	seen := map[int32]bool{}
	for _, slice := range list {
		if slice.Annotations[api.AnnotationEntryPorts] == "" {
			t.Errorf("slice %s does not say its entry ports", slice.Name)
		}
		for _, e := range slice.Endpoints {
			if !slices.Equal(e.Addresses, []string{entry}) {
				t.Errorf("slice %s has endpoint %v, the entry gateway is %s", slice.Name, e.Addresses, entry)
			}
		}
		for _, p := range slice.Ports {
			if *p.Port < 20000 || *p.Port > 29999 || seen[*p.Port] {
				t.Errorf("slice %s has port %d", slice.Name, *p.Port)
			}
			seen[*p.Port] = true
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d entry ports for the five ports of echo", len(seen))
	}
}

// While own pods are ready they serve pods without a sidecar too; when the last goes west does, and back
// (mcs.md §5, issue: own pods come first).
func TestWithoutSidecarOwnPodsFirst(t *testing.T) {
	mesh.Needs(t, SeparateNetworks, Time)
	t.Parallel()
	const ns, url = "entry-own", "http://echo.entry-own.svc.clusterset.local"
	exportedEcho(t, ns, mesh.East, mesh.West)
	bare := bareCaller(t, ns+"-bare")
	only := func(cluster string) {
		t.Helper()
		Eventually(t, time.Minute, "all of sixty new connections reach "+cluster, func(ctx context.Context) error {
			s, err := bare.Call(ctx, url, 60, "--new-connections")
			if err != nil {
				return err
			}
			return reached(s, []string{cluster})
		})
	}
	only("east")
	mesh.East.Scale(t, ns, "echo-v1", 0)
	only("west")
	mesh.East.Scale(t, ns, "echo-v1", 1)
	only("east")
}

// The entry gateway is no open relay: not for ports that lead nowhere, not to itself, not from outside its
// cluster, and not through the east-west gateway's Service.
func TestEntryGatewayIsNoOpenRelay(t *testing.T) {
	mesh.Needs(t, SeparateNetworks, Time)
	const ns, host = "entry-relay", "echo.entry-relay.svc.clusterset.local"
	exportedEcho(t, ns, mesh.West)
	bare := bareCaller(t, ns+"-bare")
	bare.Reaches(t, "http://"+host, time.Minute, "west")
	entry := mesh.East.Ready(t, "isthmus-system", "app="+api.EntryName, 1)[0].Status.PodIP
	port := entryPort(t, ns, "echo", "http")
	bare.Reaches(t, fmt.Sprintf("http://%s:%d", entry, port), 20*time.Second, "west") // it is this one

	used := map[int32]bool{}
	all, err := mesh.East.Kube.DiscoveryV1().EndpointSlices("").List(t.Context(), metav1.ListOptions{LabelSelector: "multicluster.kubernetes.io/source-cluster"})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all.Items {
		for _, p := range s.Ports {
			used[*p.Port] = true
		}
	}
	free := int32(20000)
	for used[free] {
		free++
	}
	for name, addr := range map[string]string{
		"a port that nothing is allocated to": fmt.Sprintf("%s:%d", entry, free),
		"the listener itself":                 fmt.Sprintf("%s:%d", entry, api.PortEntry),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := bare.Call(t.Context(), "http://"+addr, 2)
			if err != nil || s.OK > 0 {
				t.Errorf("%d of %d were answered: %v", s.OK, s.Requests, err)
			}
		})
	}
	t.Run("from another cluster", func(t *testing.T) {
		mesh.West.Namespace(t, ns+"-far", false)
		far := NewCaller(t, mesh.West, ns+"-far")
		gateway, err := mesh.East.Kube.CoreV1().Services("isthmus-system").Get(t.Context(), api.EastWestName, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		link, err := mesh.West.Link(t.Context(), "east")
		if err != nil || len(link.Status.Gateways) == 0 {
			t.Fatalf("the gateway's address: %v", err)
		}
		address, _, err := net.SplitHostPort(link.Status.Gateways[0].Address)
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{entry, address} {
			s, err := far.Call(t.Context(), fmt.Sprintf("http://%s:%d", host, port), 2)
			if err != nil || s.OK > 0 {
				t.Errorf("%s: %d of %d were answered: %v", host, s.OK, s.Requests, err)
			}
		}
		for _, p := range gateway.Spec.Ports {
			if p.Port >= 20000 && p.Port < 30000 || p.Port == api.PortEntry {
				t.Errorf("the east-west gateway's Service has port %d", p.Port)
			}
		}
	})
}

// entryPort returns the entry gateway's port in east for a named port of an import.
func entryPort(t *testing.T, ns, name, port string) int32 {
	t.Helper()
	var out int32
	Eventually(t, 30*time.Second, "an entry port for "+ns+"/"+name, func(ctx context.Context) error {
		list, err := mesh.East.importedSlices(ctx, ns, name, "west")
		if err != nil {
			return err
		}
		for _, s := range list {
			for _, p := range s.Ports {
				if p.Name != nil && *p.Name == port && len(s.Endpoints) > 0 {
					out = *p.Port
					return nil
				}
			}
		}
		return fmt.Errorf("none in %d slices", len(list))
	})
	return out
}

// A namespace can be shut out of the entry gateway, and an export can refuse it, since all its callers share
// one identity; neither touches callers with a sidecar.
func TestEntryGatewayRefused(t *testing.T) {
	mesh.Needs(t, SeparateNetworks, Time)
	t.Parallel()
	const ns, url = "entry-refused", "http://echo.entry-refused.svc.clusterset.local"
	meshed := exportedEcho(t, ns, mesh.West)
	bare := bareCaller(t, ns+"-bare")
	other := bareCaller(t, ns+"-other")
	bare.Reaches(t, url, time.Minute, "west")
	other.Reaches(t, url, time.Minute, "west")

	t.Run("by the namespace of the caller", func(t *testing.T) {
		label(t, mesh.East, ns+"-bare", `{"metadata":{"labels":{"isthmus.dev/entry":"refuse"}}}`)
		bare.Fails(t, url, 30*time.Second)
		other.Reaches(t, url, 10*time.Second, "west")
		label(t, mesh.East, ns+"-bare", `{"metadata":{"labels":{"isthmus.dev/entry":null}}}`)
		bare.Reaches(t, url, 30*time.Second, "west")
	})
	t.Run("by the export", func(t *testing.T) {
		port := entryPort(t, ns, "echo", "http")
		entry := mesh.East.Ready(t, "isthmus-system", "app="+api.EntryName, 1)[0].Status.PodIP
		annotateExport(t, mesh.West, ns, "echo", api.AnnotationEntry, api.EntryRefuse)
		bare.Fails(t, url, 30*time.Second)
		bare.Fails(t, fmt.Sprintf("http://%s:%d", entry, port), 30*time.Second)
		s := meshed.Reaches(t, url, 10*time.Second, "west")
		if len(s.Callers) != 1 || !strings.HasSuffix(s.Callers[0], "/sa/client") {
			t.Errorf("the server saw %v", s.Callers)
		}
	})
}

func label(t *testing.T, c *Cluster, namespace, patch string) {
	t.Helper()
	if _, err := c.Kube.CoreV1().Namespaces().Patch(t.Context(), namespace, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// annotateExport sets an annotation on a ServiceExport; the empty value takes it away.
func annotateExport(t *testing.T, c *Cluster, ns, name, key, value string) {
	t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, key, value)
	if value == "" {
		patch = fmt.Sprintf(`{"metadata":{"annotations":{%q:null}}}`, key)
	}
	if _, err := c.Dynamic.Resource(exportKind).Namespace(ns).Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// An entry port belongs to its import until that is gone, through restarts of the control plane, and is not given
// to another at once; the entry gateway's pod may change.
func TestEntryPortsAreKept(t *testing.T) {
	mesh.Needs(t, SeparateNetworks, Time)
	const ns, url = "entry-kept", "http://echo.entry-kept.svc.clusterset.local"
	exportedEcho(t, ns, mesh.West)
	bare := bareCaller(t, ns+"-bare")
	bare.Reaches(t, url, time.Minute, "west")
	before := entryPort(t, ns, "echo", "http")

	for _, app := range []string{api.ControlPlaneName, api.EntryName} {
		pod := mesh.East.SystemPod(t, app)
		if err := mesh.East.Kube.CoreV1().Pods("isthmus-system").Delete(t.Context(), pod, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		Eventually(t, time.Minute, "another pod of "+app, func(ctx context.Context) error {
			pods, err := mesh.East.Kube.CoreV1().Pods("isthmus-system").List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
			if err != nil {
				return err
			}
			for _, p := range pods.Items {
				if p.Name != pod && p.DeletionTimestamp == nil && isReady(&p) {
					return nil
				}
			}
			return fmt.Errorf("%d pods", len(pods.Items))
		})
		bare.Reaches(t, url, time.Minute, "west")
		if after := entryPort(t, ns, "echo", "http"); after != before {
			t.Errorf("the entry port was %d and is %d after a restart of %s", before, after, app)
		}
	}
	mesh.CLI(t, "unexport", ns+"/echo", "--context", "west")
	mesh.East.NotImported(t, ns, "echo")
	retired := retiredPorts(t)
	if !strings.Contains(retired, fmt.Sprint(before)) {
		t.Errorf("port %d is not kept from others: %s", before, retired)
	}
	mesh.CLI(t, "export", ns+"/echo", "--context", "west", "--wait")
	bare.Reaches(t, url, time.Minute, "west")
	if after := entryPort(t, ns, "echo", "http"); after != before {
		t.Errorf("the entry port was %d and is %d after the export came back", before, after)
	}
}

// retiredPorts is the text of what must not be used for others yet.
func retiredPorts(t *testing.T) string {
	t.Helper()
	m, err := mesh.East.Kube.CoreV1().ConfigMaps("isthmus-system").Get(t.Context(), api.EntryRetiredName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return text(m)
}

func text(m *corev1.ConfigMap) string { return fmt.Sprint(m.Data) }

// syntheticRange is where the addresses of remote pods are, unless installed otherwise.
var syntheticRange = netip.MustParsePrefix("240.241.0.0/16")
