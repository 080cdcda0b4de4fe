//go:build e2e

package e2e

import (
	"context"
	"slices"
	"testing"
	"time"
)

const echoFile = "../samples/echo/echo.yaml"

// A pod of east calls a service of west by its clusterset name, through its sidecar, west's
// gateway and the callee's sidecar; the callee is told who called.
func TestCallAcross(t *testing.T) {
	t.Parallel()
	caller := exportedEcho(t, "call-across", mesh.West)
	s := caller.Reaches(t, "http://echo.call-across.svc.clusterset.local", time.Minute, "west")
	if want := []string{"spiffe://cluster.local/ns/call-across/sa/client"}; !slices.Equal(s.Callers, want) {
		t.Errorf("the server saw callers %v, want %v", s.Callers, want)
	}
	for name, url := range map[string]string{
		"TCP":                 "tcp://echo.call-across.svc.clusterset.local:9090",
		"server speaks first": "banner://echo.call-across.svc.clusterset.local:9091",
		"gRPC":                "grpc://echo.call-across.svc.clusterset.local:7070",
		"protocol not told":   "http://echo.call-across.svc.clusterset.local:8081",
	} {
		t.Run(name, func(t *testing.T) { caller.Reaches(t, url, 30*time.Second, "west") })
	}
	t.Run("the local name stays local", func(t *testing.T) {
		caller.Fails(t, "http://echo.call-across.svc.cluster.local", 20*time.Second)
	})
	t.Run("large answers and many connections", func(t *testing.T) {
		s, err := caller.Call(t.Context(), "http://echo.call-across.svc.clusterset.local", 300, "--new-connections", "--rate", "150")
		if err != nil || s.Failed > 0 {
			t.Errorf("%d of %d failed: %v %v", s.Failed, s.Requests, s.Errors, err)
		}
	})
}

// A pod that calls itself by its own Service gets through its own sidecar both ways.
func TestCallSelf(t *testing.T) {
	t.Parallel()
	exportedEcho(t, "call-self", mesh.East)
	pod := mesh.East.Ready(t, "call-self", "app=echo", 1)[0]
	self := &Caller{cluster: mesh.East, namespace: "call-self", pod: pod.Name, box: "echo"}
	s := self.Reaches(t, "http://echo.call-self.svc.cluster.local", 30*time.Second, "east")
	if want := []string{"spiffe://cluster.local/ns/call-self/sa/echo"}; !slices.Equal(s.Callers, want) {
		t.Errorf("the server saw callers %v, want %v", s.Callers, want)
	}
}

// exportedEcho makes a namespace of that name with sidecars in both clusters, starts echo in those
// given and exports it there, and returns a caller in east.
func exportedEcho(t *testing.T, namespace string, in ...*Cluster) *Caller {
	t.Helper()
	for _, c := range mesh.Clusters() {
		c.Namespace(t, namespace, true)
	}
	for _, c := range in {
		c.Apply(t, namespace, echoFile)
		c.ApplyYAML(t, namespace, exportOf("echo"))
	}
	for _, c := range in {
		c.Ready(t, namespace, "app=echo", 1)
	}
	return NewCaller(t, mesh.East, namespace)
}

func exportOf(name string) string {
	return "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\nmetadata: {name: " + name + "}\n"
}

// Imported waits until the cluster has a ServiceImport with an address.
func (c *Cluster) Imported(t *testing.T, namespace, name string) {
	t.Helper()
	Eventually(t, 30*time.Second, c.Name+" imports "+namespace+"/"+name, func(ctx context.Context) error {
		return c.imported(ctx, namespace, name)
	})
}
