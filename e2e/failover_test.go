//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/drill/load"
)

// Own pods come first; when the last of them goes, traffic moves to west within the same
// request, and back when they return.
func TestFailoverAndFailback(t *testing.T) {
	t.Parallel()
	const ns, url = "failover", "http://echo.failover.svc.clusterset.local"
	caller := exportedEcho(t, ns, mesh.East, mesh.West)
	leaveAtOnce(t, mesh.East, ns)
	caller.Reaches(t, url, time.Minute, "east")
	traffic := caller.Traffic(t, url, 50, 3*time.Minute)
	traffic.Flowing(50)

	mesh.East.Scale(t, ns, "echo-v1", 0)
	answeredBy(t, traffic, "west", 30*time.Second)
	mesh.East.Scale(t, ns, "echo-v1", 1)
	answeredBy(t, traffic, "east", time.Minute)

	if lost := failures(traffic.Stop()); lost != "" {
		t.Error(lost)
	}
}

// leaveAtOnce makes echo stop serving the moment it is told to end, before anybody can have learned of it: what
// was on its way then reaches a sidecar without an application.
func leaveAtOnce(t *testing.T, c *Cluster, ns string) {
	t.Helper()
	manifest, err := os.ReadFile(echoFile)
	if err != nil {
		t.Fatal(err)
	}
	hasty := strings.Replace(string(manifest), "args: [echo]", "args: [echo, --linger=0s]", 1)
	if hasty == string(manifest) {
		t.Fatalf("%s has no line to change", echoFile)
	}
	c.ApplyYAML(t, ns, hasty)
	c.Ready(t, ns, "app=echo", 1)
}

// answeredBy waits until the last twenty requests were answered by one cluster.
func answeredBy(t *testing.T, traffic *Load, cluster string, within time.Duration) {
	t.Helper()
	Eventually(t, within, "answers from "+cluster+" alone", func(context.Context) error {
		records := traffic.Records()
		if len(records) < 20 {
			return fmt.Errorf("%d answers so far", len(records))
		}
		for _, r := range records[len(records)-20:] {
			if !r.OK() || r.Cluster != cluster {
				return fmt.Errorf("request %d: %q %s %s", r.N, r.Cluster, r.Kind, r.Message)
			}
		}
		return nil
	})
}

// begun returns the records of requests that began between two moments.
func begun(records []load.Record, from, to time.Time) []load.Record {
	var out []load.Record
	for _, r := range records {
		if !r.Start.Before(from) && r.Start.Before(to) {
			out = append(out, r)
		}
	}
	return out
}
