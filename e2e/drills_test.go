//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/drill"
)

// Namespaces of the drills: in one, clusters besides east serve, so that requests move; in the other east's own
// pods do, and west's.
const (
	drillsAway = "drills-away"
	drillsHome = "drills-home"
)

// drilled is one scenario, broken by what works on any cluster, and what is wanted beyond a verdict of pass.
type drilled struct {
	scenario  string
	namespace string
	flags     []string
	lossless  bool // no request fails
	clean     bool // none fails that begins 2 s after the break or later
	noticed   bool // the link says that something is broken, and that all is well again
}

var allDrills = []drilled{
	{scenario: drill.ScenarioLocalEndpoints, namespace: drillsHome, lossless: true},
	{scenario: drill.ScenarioGatewayRefuse, namespace: drillsAway, flags: []string{"--remote", "west", "--means", "mesh"}, lossless: true, noticed: true},
	{scenario: drill.ScenarioGatewayDrop, namespace: drillsAway, flags: []string{"--remote", "west", "--means", "mesh"}, clean: true, noticed: true},
	{scenario: drill.ScenarioAPIServer, namespace: drillsAway, flags: []string{"--remote", "west", "--means", "mesh"}, lossless: true, noticed: true},
	{scenario: drill.ScenarioControlPlane, namespace: drillsAway, lossless: true},
	{scenario: drill.ScenarioWholeCluster, namespace: drillsAway, flags: []string{"--remote", "west", "--means", "mesh"}, clean: true, noticed: true},
	{scenario: drill.ScenarioSlow, namespace: drillsAway, flags: []string{"--remote", "west"}, lossless: true},
	{scenario: drill.ScenarioFlap, namespace: drillsAway, flags: []string{"--remote", "west", "--means", "mesh"}, lossless: true},
}

// How long the parts of each drill last, and how many requests are sent each second.
const (
	drillRate     = 100
	drillBaseline = 3 * time.Second
	drillBroken   = 10 * time.Second
	drillAfter    = 4 * time.Second
)

// Every scenario passes at 100 requests a second.
func TestDrills(t *testing.T) {
	drillServices(t)
	for _, d := range allDrills {
		t.Run(d.scenario, func(t *testing.T) {
			began := time.Now()
			r := runDrill(t, d)
			d.judge(t, r)
			t.Logf("%s: %s in %.0f s, %d requests, %d failed; %s", d.scenario, strings.ToUpper(r.Verdict), time.Since(began).Seconds(), r.Requests, r.Errors, r.What)
		})
	}
}

// drillServices starts what is drilled. Of two clusters the one that is left answers for itself; with a third,
// requests move.
func drillServices(t *testing.T) {
	t.Helper()
	away := []*Cluster{mesh.West, mesh.East}
	if mesh.North != nil {
		mesh.North.Namespace(t, drillsAway, true)
		away[1] = mesh.North
	}
	serve(t, drillsAway, away)
	serve(t, drillsHome, []*Cluster{mesh.West, mesh.East})
}

// serve exports echo from clusters and waits until east is answered by those that it should be.
func serve(t *testing.T, namespace string, in []*Cluster) {
	t.Helper()
	caller := exportedEcho(t, namespace, in...)
	var answer []string
	for _, c := range in {
		answer = append(answer, c.Name)
		if c != mesh.East {
			mesh.East.WaitLink(t, c.Name, time.Minute, v1alpha1.LinkConnected)
		}
	}
	if slices.Contains(answer, mesh.East.Name) {
		answer = []string{mesh.East.Name} // own pods come first
	}
	caller.Reaches(t, "http://echo."+namespace+".svc.clusterset.local", time.Minute, answer...)
}

// args are the command line of the drill.
func (d drilled) args(more ...string) []string {
	args := []string{"drill", d.scenario, "--context", mesh.East.Name, "--service", d.namespace + "/echo", "--rate", fmt.Sprint(drillRate)}
	args = append(args, "--baseline", drillBaseline.String(), "--duration", drillBroken.String(), "--after", drillAfter.String())
	return append(append(args, d.flags...), more...)
}

// runDrill does a drill. That it did not pass is in the result; that it could not be done ends the test.
func runDrill(t *testing.T, d drilled) drill.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := mesh.run(ctx, d.args("-o", "json")...)
	var r drill.Result
	if jsonErr := json.Unmarshal([]byte(out), &r); jsonErr != nil || r.Verdict == "" {
		t.Fatalf("%v, %v", err, jsonErr)
	}
	return r
}

func (d drilled) judge(t *testing.T, r drill.Result) {
	t.Helper()
	if r.Verdict != drill.Pass {
		t.Errorf("%s: %s", r.Verdict, strings.Join(r.Reasons, "; "))
	}
	var sent float64
	for _, p := range r.Phases {
		sent += p.Seconds * drillRate
		if p.Requests == 0 {
			t.Errorf("no request in phase %s", p.Name)
		}
	}
	if float64(r.Requests) < 0.8*sent {
		t.Errorf("%d requests were sent, at %d a second there were %.0f", r.Requests, drillRate, sent)
	}
	if d.lossless && r.Errors > 0 {
		t.Errorf("%d of %d requests failed", r.Errors, r.Requests)
	}
	if last := r.LastFailureSeconds; d.clean && (last != nil && *last >= 2 || r.Phases[0].Failed+r.Phases[2].Failed > 0) {
		t.Errorf("a request failed that began %v s after the break; before it %d failed, after the restore %d", last, r.Phases[0].Failed, r.Phases[2].Failed)
	}
	if d.noticed && (r.NoticedSeconds == nil || r.HealedSeconds == nil) {
		t.Errorf("the link said so after %v s, and that all is well %v s after the restore", r.NoticedSeconds, r.HealedSeconds)
	}
}

// noDrill asks whether a drill has left something in a cluster.
func (c *Cluster) noDrill(ctx context.Context, namespace string) error {
	if _, err := c.Kube.CoordinationV1().Leases("isthmus-system").Get(ctx, drill.NoteName, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return fmt.Errorf("%s: the note of a drill is there: %v", c.Name, err)
	}
	if _, err := c.Kube.AppsV1().Deployments(namespace).Get(ctx, drill.ClientName, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return fmt.Errorf("%s: the client of a drill is there: %v", c.Name, err)
	}
	if c == mesh.West {
		return nil
	}
	link, err := c.Link(ctx, mesh.West.Name)
	if err == nil && (link.Spec.Fault != nil || link.Status.Fault != "") {
		err = fmt.Errorf("%s: its link has the fault %v, in force is %q", c.Name, link.Spec.Fault, link.Status.Fault)
	}
	return err
}

// underWay starts a drill that takes long, and returns when what it breaks is broken.
func underWay(t *testing.T, d drilled) (cmd *exec.Cmd, wait func() error) {
	t.Helper()
	var errs bytes.Buffer
	cmd = mesh.command(t.Context(), d.args("--duration", "5m")...)
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	wait = func() error {
		select {
		case err := <-ended:
			return err
		case <-time.After(time.Minute):
			return fmt.Errorf("it did not end: %s", errs.String())
		}
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	Eventually(t, time.Minute, "the drill breaks the link", func(ctx context.Context) error {
		link, err := mesh.East.Link(ctx, mesh.West.Name)
		if err == nil && (link.Status.Fault != drill.ModeDrop || !strings.HasPrefix(link.Status.Message, "a drill has ")) {
			err = fmt.Errorf("fault %q, %q", link.Status.Fault, link.Status.Message)
		}
		return err
	})
	mesh.East.WaitLink(t, mesh.West.Name, time.Minute, v1alpha1.LinkDegraded, v1alpha1.LinkLost)
	return cmd, wait
}

// exitCode is that of a command that ran.
func exitCode(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return 0
}

// A second drill is refused while one runs. One that is killed leaves nothing broken for longer than its faults live,
// and a note by which the rest is undone.
func TestDrillKilled(t *testing.T) {
	drillServices(t)
	whole := drilled{scenario: drill.ScenarioWholeCluster, namespace: drillsAway, flags: []string{"--remote", "west", "--means", "mesh"}}
	cmd, wait := underWay(t, whole)
	out, err := mesh.run(t.Context(), whole.args()...)
	if exitCode(err) != 1 || !strings.Contains(err.Error(), "another drill runs, noted in ") || !strings.Contains(err.Error(), "next: ") {
		t.Errorf("a second drill: %v\n%s", err, out)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = wait()
	killed := time.Now()
	mesh.East.WaitLink(t, mesh.West.Name, time.Minute, v1alpha1.LinkConnected)
	t.Logf("whole again %.0f s after the kill, by itself", time.Since(killed).Seconds())
	mesh.CLI(t, "drill", "restore", "--context", mesh.all()[len(mesh.all())-1].Name, "--force")
	for _, c := range mesh.all() {
		Eventually(t, 30*time.Second, "nothing is left of the drill", func(ctx context.Context) error { return c.noDrill(ctx, drillsAway) })
	}
	if out := mesh.CLI(t, "drill", "restore", "--context", mesh.East.Name); !strings.Contains(out, "nothing to restore") {
		t.Errorf("restored twice: %s", out)
	}
}

// A drill that is interrupted restores everything at once.
func TestDrillInterrupted(t *testing.T) {
	drillServices(t)
	cmd, wait := underWay(t, drilled{scenario: drill.ScenarioWholeCluster, namespace: drillsAway, flags: []string{"--remote", "west", "--means", "mesh"}})
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := wait(); exitCode(err) != 130 {
		t.Errorf("it ended with %v", err)
	}
	for _, c := range mesh.all() {
		Eventually(t, 10*time.Second, "nothing is left of the drill", func(ctx context.Context) error { return c.noDrill(ctx, drillsAway) })
	}
	mesh.East.WaitLink(t, mesh.West.Name, time.Minute, v1alpha1.LinkConnected)
}

// A service that has nowhere to go is not drilled, and nothing is changed to find that out.
func TestDrillNowhereToGo(t *testing.T) {
	const ns = "drills-nowhere"
	serve(t, ns, []*Cluster{mesh.West})
	for _, scenario := range []string{drill.ScenarioGatewayRefuse, drill.ScenarioGatewayDrop, drill.ScenarioWholeCluster, drill.ScenarioFlap} {
		d := drilled{scenario: scenario, namespace: ns, flags: []string{"--means", "mesh", "--force"}}
		_, err := mesh.run(t.Context(), d.args()...)
		if exitCode(err) != 1 || !strings.Contains(err.Error(), "without west nobody would answer") || !strings.Contains(err.Error(), "next: isthmus export "+ns+"/echo") {
			t.Errorf("%s: %v", scenario, err)
		}
	}
	for _, c := range mesh.all() {
		if err := c.noDrill(t.Context(), ns); err != nil {
			t.Error(err)
		}
	}
}

// all are the clusters that there are.
func (m *Mesh) all() []*Cluster {
	if m.North == nil {
		return m.Clusters()
	}
	return append(m.Clusters(), m.North)
}
