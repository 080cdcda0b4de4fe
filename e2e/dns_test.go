//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/install/coredns"
)

// answer is what `isthmus-samples lookup` prints.
type answer struct {
	Code    string
	Answers []string
	TTL     uint32
}

// maxNegative is how long, in seconds, a name that does not exist yet may be missing for those who asked too
// early: the ttl of the cluster's own Corefile, 5 where it has none (CoreDNS, plugin kubernetes).
func (c *Cluster) maxNegative(ctx context.Context) (uint32, error) {
	m, err := c.Kube.CoreV1().ConfigMaps("kube-system").Get(ctx, "coredns", metav1.GetOptions{})
	if err != nil {
		return 0, err
	}
	found := regexp.MustCompile(`(?m)^\s*ttl (\d+)$`).FindStringSubmatch(m.Data["Corefile"])
	if found == nil {
		return 5, nil
	}
	ttl, err := strconv.ParseUint(found[1], 10, 32)
	return uint32(ttl), err
}

// lookup asks the DNS server of the caller's pod.
func (c *Caller) lookup(ctx context.Context, name, kind string) (answer, error) {
	var a answer
	out, err := c.cluster.Exec(ctx, c.namespace, c.pod, c.box, "/isthmus-samples", "lookup", name, "--type", kind)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal([]byte(out), &a)
}

// Resolves waits until the name's answers are those given.
func (c *Caller) Resolves(t *testing.T, name, kind string, want ...string) {
	t.Helper()
	Eventually(t, 20*time.Second, c.cluster.Name+" looks up "+kind+" "+name, func(ctx context.Context) error {
		a, err := c.lookup(ctx, name, kind)
		if err != nil {
			return err
		}
		slices.Sort(a.Answers)
		if slices.Sort(want); !slices.Equal(a.Answers, want) {
			return fmt.Errorf("%s %v, want %v", a.Code, a.Answers, want)
		}
		return nil
	})
}

// Absent waits until the name does not exist, and looks how long a cache may keep that.
func (c *Caller) Absent(t *testing.T, name, kind string) {
	t.Helper()
	longest, err := c.cluster.maxNegative(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	Eventually(t, 20*time.Second, c.cluster.Name+" looks up "+kind+" "+name+" in vain", func(ctx context.Context) error {
		a, err := c.lookup(ctx, name, kind)
		if err == nil && (a.Code != "NameError" || a.TTL > longest) {
			err = fmt.Errorf("%s %v for %d s", a.Code, a.Answers, a.TTL)
		}
		return err
	})
}

// The cluster's own CoreDNS, which isthmus install has found with a stock Corefile, serves the clusterset
// to pods without a sidecar (mcs.md §6): A, SRV and TXT, and not what must not exist.
func TestClustersetDNS(t *testing.T) {
	t.Parallel()
	const ns, name = "dns", "echo.dns.svc.clusterset.local"
	for _, c := range mesh.Clusters() {
		c.Namespace(t, ns, false)
	}
	caller := NewCaller(t, mesh.East, ns)
	caller.Resolves(t, "dns-version.clusterset.local", "TXT", "1.1.0")
	caller.Absent(t, name, "A") // asked too early: must not hide it later
	mesh.West.Apply(t, ns, echoFile)
	mesh.West.ApplyYAML(t, ns, exportOf("echo"))
	mesh.East.Imported(t, ns, "echo")

	address, ports := mesh.East.importSpec(t, ns, "echo")
	caller.Resolves(t, name, "A", address)
	caller.Resolves(t, name, "AAAA")
	for _, p := range ports {
		caller.Resolves(t, fmt.Sprintf("_%s._tcp.%s", p.Name, name), "SRV", fmt.Sprintf("%s:%d", name, p.Port))
	}
	for _, absent := range []string{
		"nobody.dns.svc.clusterset.local",         // no such export
		"west." + name,                            // a cluster's name before that of a service with an address
		"east." + name,                            //
		"echo.nowhere.svc.clusterset.local",       // no such namespace
		"echo.dns.svc.cluster.local",              // stays local: there is no Service in east
		"echo.dns.pod.clusterset.local",           // pods have no names in the clusterset
		"kubernetes.default.svc.clusterset.local", // a Service without an export
	} {
		caller.Absent(t, absent, "A")
	}
	caller.Absent(t, "_nobody._tcp."+name, "SRV")
	caller.Resolves(t, "kubernetes.default.svc.cluster.local", "A", mesh.East.clusterIP(t, "default", "kubernetes"))

	mesh.CLI(t, "unexport", ns+"/echo", "--context", "west")
	caller.Absent(t, name, "A")
}

// A headless service has the addresses of its ready pods, in its own cluster, by the name of each too.
func TestClustersetDNSHeadless(t *testing.T) {
	mesh.Needs(t, Time)
	t.Parallel()
	const ns, name = "dns-headless", "set.dns-headless.svc.clusterset.local"
	mesh.East.Namespace(t, ns, false)
	mesh.East.ApplyYAML(t, ns, headless)
	mesh.East.ApplyYAML(t, ns, exportOf("set"))
	pod := mesh.East.Ready(t, ns, "app=set", 1)[0]
	caller := NewCaller(t, mesh.East, ns)
	caller.Resolves(t, name, "A", pod.Status.PodIP)
	caller.Resolves(t, "set-0.east."+name, "A", pod.Status.PodIP)
	caller.Resolves(t, "_http._tcp."+name, "SRV", "set-0.east."+name+":8080")
	caller.Absent(t, "east."+name, "A")
	caller.Absent(t, "set-1.east."+name, "A")
}

const headless = `
apiVersion: v1
kind: Service
metadata: {name: set}
spec:
  clusterIP: None
  selector: {app: set}
  ports: [{name: http, port: 8080}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: set}
spec:
  serviceName: set
  selector: {matchLabels: {app: set}}
  template:
    metadata: {labels: {app: set}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: echo, image: 'isthmus-mesh/isthmus-samples:dev', args: [echo]}]
`

// Installing again changes nothing of CoreDNS, and the user's Corefile is kept.
func TestCoreDNSKeepsItsOriginal(t *testing.T) {
	read := func() *corev1.ConfigMap {
		m, err := mesh.East.Kube.CoreV1().ConfigMaps("kube-system").Get(t.Context(), "coredns", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	before := read()
	original := before.Annotations[coredns.AnnotationOriginal]
	if strings.Contains(original, "clusterset.local") || !strings.Contains(original, "kubernetes cluster.local") {
		t.Errorf("original Corefile:\n%s", original)
	}
	mesh.CLI(t, mesh.InstallArgs(mesh.East)...)
	if after := read(); after.ResourceVersion != before.ResourceVersion {
		t.Errorf("changed again:\n%s", after.Data["Corefile"])
	}
}

type importPort struct {
	Name string
	Port int64
}

// importSpec returns the address and the ports of an import.
func (c *Cluster) importSpec(t *testing.T, namespace, name string) (string, []importPort) {
	t.Helper()
	obj, err := c.Dynamic.Resource(importKind).Namespace(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ips, _, _ := unstructured.NestedStringSlice(obj.Object, "spec", "ips")
	list, _, _ := unstructured.NestedSlice(obj.Object, "spec", "ports")
	var ports []importPort
	for _, p := range list {
		m := p.(map[string]any)
		n, _ := m["name"].(string)
		ports = append(ports, importPort{n, m["port"].(int64)})
	}
	if len(ips) != 1 || len(ports) == 0 {
		t.Fatalf("import %s/%s has the addresses %v and the ports %v", namespace, name, ips, ports)
	}
	return ips[0], ports
}

func (c *Cluster) clusterIP(t *testing.T, namespace, name string) string {
	t.Helper()
	s, err := c.Kube.CoreV1().Services(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s.Spec.ClusterIP
}
