//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const statefulSet = `
apiVersion: v1
kind: Service
metadata: {name: db}
spec:
  clusterIP: None
  selector: {app: db}
  ports: [{name: http, port: 8080}, {name: tcp-line, port: 9090}, {name: tcp-banner, port: 9091}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: db}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      serviceAccountName: db
      terminationGracePeriodSeconds: 5
      containers:
      - name: echo
        image: isthmus-mesh/isthmus-samples:dev
        args: [echo]
        env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: CLUSTER_NAME, valueFrom: {configMapKeyRef: {name: cluster, key: name, optional: true}}}
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
`

// Each pod of a headless service of another cluster has a name and an address of its own (on another network, one that
// stands for it), at which pods with a sidecar reach it and no other (mcs.md §5, §6); one pod that goes and comes back disturbs no other's connections.
func TestHeadlessAcrossNetworks(t *testing.T) {
	t.Parallel()
	const ns, name = "headless", "db.headless.svc.clusterset.local"
	for _, c := range mesh.Clusters() {
		c.Namespace(t, ns, true)
	}
	mesh.West.ApplyYAML(t, ns, statefulSet)
	mesh.West.ApplyYAML(t, ns, exportOf("db"))
	mesh.West.Ready(t, ns, "app=db", 2)
	caller := NewCaller(t, mesh.East, ns)

	addrs := map[string]string{}
	for _, pod := range []string{"db-0", "db-1"} {
		host := pod + ".west." + name
		Eventually(t, 30*time.Second, "an address of "+host, func(ctx context.Context) error {
			a, err := caller.lookup(ctx, host, "A")
			if err != nil {
				return err
			}
			if len(a.Answers) != 1 {
				return fmt.Errorf("%s %v", a.Code, a.Answers)
			}
			addrs[pod] = a.Answers[0]
			return nil
		})
		if separate := mesh.East.Network != mesh.West.Network; syntheticRange.Contains(netip.MustParseAddr(addrs[pod])) != separate {
			t.Errorf("%s has the address %s; between networks=%t, where it is one of %s", host, addrs[pod], separate, syntheticRange)
		}
		for _, url := range []string{"http://" + host + ":8080", "tcp://" + host + ":9090", "banner://" + host + ":9091"} {
			s := caller.Reaches(t, url, 30*time.Second, "west")
			if len(s.Pods) != 1 || s.Pods["west/"+pod].Requests == 0 {
				t.Errorf("%s was answered by %v", url, s.Pods)
			}
		}
	}
	caller.Resolves(t, name, "A", addrs["db-0"], addrs["db-1"])
	caller.Resolves(t, "_http._tcp."+name, "SRV", "db-0.west."+name+":8080", "db-1.west."+name+":8080")
	caller.Absent(t, "west."+name, "A")
	caller.Absent(t, "db-2.west."+name, "A")

	t.Run("one pod that goes drains no other", func(t *testing.T) {
		traffic := caller.Traffic(t, "http://db-0.west."+name+":8080", 20, 2*time.Minute)
		traffic.Flowing(20)
		if err := mesh.West.Kube.CoreV1().Pods(ns).Delete(t.Context(), "db-1", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		caller.Absent(t, "db-1.west."+name, "A")
		mesh.West.Ready(t, ns, "app=db", 2)
		if mesh.East.Network != mesh.West.Network {
			caller.Resolves(t, "db-1.west."+name, "A", addrs["db-1"]) // the same again
		}
		s := caller.Reaches(t, "http://db-1.west."+name+":8080", 30*time.Second, "west")
		if len(s.Pods) != 1 || s.Pods["west/db-1"].Requests == 0 {
			t.Errorf("answered by %v", s.Pods)
		}
		traffic.Flowing(20)
		if lost := failures(traffic.Stop()); lost != "" {
			t.Error(lost)
		}
	})
	t.Run("none ready: no name", func(t *testing.T) {
		patch := []byte(`{"spec":{"replicas":0}}`)
		if _, err := mesh.West.Kube.AppsV1().StatefulSets(ns).Patch(t.Context(), "db", "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		caller.Absent(t, name, "A")
	})
}
