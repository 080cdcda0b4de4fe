//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/drill/load"
)

// drained is what the commands print as JSON, as far as tests look at it.
type drained struct {
	Stage   string    `json:"stage"`
	Since   time.Time `json:"since"`
	Changed bool      `json:"changed"`
	Empty   bool      `json:"empty"`
	Moved   bool      `json:"moved"`
	Left    []struct {
		Service string `json:"service"`
		Stays   string `json:"stays"`
	} `json:"left"`
}

func (m *Mesh) drain(t *testing.T, args ...string) drained {
	t.Helper()
	var d drained
	out := m.CLI(t, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return d
}

// A drained cluster loses its traffic and no request: that of other clusters and
// that of its own callers, while what it alone serves goes on. It is said to be
// empty when that has ended too, and comes back in steps.
func TestDrain(t *testing.T) {
	mesh.Needs(t, ThirdCluster, Time)
	const ns, alone = "drain", "drain-alone"
	for _, c := range []*Cluster{mesh.East, mesh.West, mesh.North} {
		c.Namespace(t, ns, true)
		c.Namespace(t, alone, true)
	}
	for _, c := range []*Cluster{mesh.West, mesh.North} {
		c.Apply(t, ns, echoFile)
		c.ApplyYAML(t, ns, exportOf("echo"))
	}
	mesh.West.Apply(t, alone, echoFile)
	mesh.West.ApplyYAML(t, alone, exportOf("echo"))
	mesh.West.Ready(t, ns, "app=echo", 1)
	mesh.North.Ready(t, ns, "app=echo", 1)
	mesh.West.Ready(t, alone, "app=echo", 1)
	const url = "http://echo." + ns + ".svc.clusterset.local"
	east, west := NewCaller(t, mesh.East, ns), NewCaller(t, mesh.West, ns)
	east.Reaches(t, url, time.Minute, "north", "west")
	west.Reaches(t, url, time.Minute, "west")
	only := "http://echo." + alone + ".svc.clusterset.local"
	east.Reaches(t, only, time.Minute, "west")

	fromEast, fromWest, toAlone := east.Traffic(t, url, 100, 10*time.Minute), west.Traffic(t, url, 50, 10*time.Minute), east.Traffic(t, only, 20, 10*time.Minute)
	fromEast.Flowing(200)
	fromWest.Flowing(100)
	toAlone.Flowing(20)
	mesh.Cleanup(t, "undrain", "west", "--steps", "100", "--force")

	first := mesh.drain(t, "drain", "west", "--timeout", "90s")
	gone := time.Now()
	if first.Stage != "drained" || !first.Changed || !first.Moved || first.Empty || len(first.Left) == 0 {
		t.Errorf("drain: %+v", first)
	}
	for _, l := range first.Left {
		if l.Service != alone+"/echo" || l.Stays == "" {
			t.Errorf("left: %+v", l)
		}
	}
	drainIsTold(t)
	if lost := failures(toAlone.Stop()); lost != "" {
		t.Errorf("what west alone serves: %s", lost)
	}
	again := mesh.drain(t, "drain", "west", "--timeout", "90s")
	if again.Changed || !again.Empty || !again.Since.Equal(first.Since) {
		t.Errorf("drain again: %+v, first %+v", again, first)
	}
	for name, l := range map[string]*Load{"east": fromEast, "west": fromWest} {
		if share := shareOf(begun(l.Records(), gone, time.Now()), "west"); share != 0 {
			t.Errorf("from %s: west has %.1f per cent while it is drained", name, share)
		}
	}

	comesBack(t, fromEast, fromWest)
	for name, l := range map[string]*Load{"east": fromEast, "west": fromWest} {
		if lost := failures(l.Stop()); lost != "" {
			t.Errorf("from %s: %s", name, lost)
		}
	}
}

// drainIsTold wants status and the peers' links to say that west is drained.
func drainIsTold(t *testing.T) {
	t.Helper()
	for _, c := range []*Cluster{mesh.East, mesh.North} {
		Eventually(t, 10*time.Second, c.Name+" says that west is drained", func(ctx context.Context) error {
			link, err := c.Link(ctx, "west")
			if err != nil {
				return err
			}
			cond := meta.FindStatusCondition(link.Status.Conditions, v1alpha1.ConditionDraining)
			if cond == nil || cond.Status != metav1.ConditionTrue || cond.Reason != v1alpha1.ReasonDrained || link.Status.State != v1alpha1.LinkConnected {
				return fmt.Errorf("%s: %+v", link.Status.State, cond)
			}
			return nil
		})
	}
	if out := mesh.CLI(t, "status"); !strings.Contains(out, "DRAINED for ") || !strings.Contains(out, "Connected, drained") {
		t.Errorf("status:\n%s", out)
	}
}

// comesBack brings west's traffic back and wants its share to rise step by step,
// for its own callers to all of it, for others to what it has usually.
func comesBack(t *testing.T, fromEast, fromWest *Load) {
	t.Helper()
	const step = 12 * time.Second
	begin := time.Now()
	back := mesh.drain(t, "undrain", "west", "--over", (3 * step).String(), "--steps", "10,25,50,100")
	if back.Stage != "in use" || !back.Changed {
		t.Errorf("undrain: %+v", back)
	}
	end := time.Now()
	answeredBy(t, fromWest, "west", 20*time.Second)
	fromWest.Flowing(200)
	fromEast.Flowing(300)
	for _, l := range []struct {
		name string
		load *Load
		want []float64
	}{
		{"west", fromWest, []float64{10, 25, 50, 100}},
		{"east", fromEast, []float64{9, 20, 33, 50}}, // of two with one pod each
	} {
		for i, want := range l.want {
			// Whoever was told last has had 3 s.
			from := begin.Add(time.Duration(i)*step + 3*time.Second)
			to := from.Add(step - 4*time.Second)
			if i == len(l.want)-1 {
				from, to = end.Add(3*time.Second), time.Now()
			}
			got := shareOf(begun(l.load.Records(), from, to), "west")
			t.Logf("from %s, step %d: west has %.1f per cent, expected %.0f", l.name, i, got, want)
			if got < want-8 || got > want+8 {
				t.Errorf("from %s, step %d: west has %.1f per cent, want about %.0f", l.name, i, got, want)
			}
		}
	}
	if again := mesh.drain(t, "undrain", "west"); again.Changed || again.Stage != "in use" {
		t.Errorf("undrain again: %+v", again)
	}
}

// shareOf is how many of the answers came from cluster, in per cent; -1 where
// there are none.
func shareOf(records []load.Record, cluster string) float64 {
	n, all := 0, 0
	for _, r := range records {
		if !r.OK() {
			continue
		}
		all++
		if r.Cluster == cluster {
			n++
		}
	}
	if all == 0 {
		return -1
	}
	return 100 * float64(n) / float64(all)
}

// A return that is interrupted stays where it is and says how to go on; the next
// one goes on from there.
func TestUndrainIsInterrupted(t *testing.T) {
	mesh.Needs(t, ThirdCluster, Time)
	mesh.Cleanup(t, "undrain", "north", "--steps", "100", "--force")
	if d := mesh.drain(t, "drain", "north", "--timeout", "60s", "--force"); !d.Moved {
		t.Fatalf("drain: %+v", d)
	}
	cmd := mesh.command(t.Context(), "undrain", "north", "--over", "5m", "--steps", "30,60,100")
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	annotation := func(ctx context.Context) string {
		ns, err := mesh.North.Kube.CoreV1().Namespaces().Get(ctx, "isthmus-system", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		return ns.Annotations["isthmus.dev/drain"]
	}
	Eventually(t, 30*time.Second, "the first step", func(ctx context.Context) error {
		if now := annotation(ctx); !strings.HasPrefix(now, "returning=30,") {
			return fmt.Errorf("annotation %q", now)
		}
		return nil
	})
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.Contains(said.String(), "north stays at 30 per cent") || !strings.Contains(said.String(), "isthmus undrain north goes on") {
		t.Errorf("exit code %d: %s", code, said.String())
	}
	if now := annotation(t.Context()); !strings.HasPrefix(now, "returning=30,") {
		t.Errorf("annotation %q after the interruption", now)
	}
	if d := mesh.drain(t, "undrain", "north", "--over", "2s", "--steps", "30,60,100"); d.Stage != "in use" {
		t.Errorf("undrain: %+v", d)
	}
	if now := annotation(t.Context()); now != "" {
		t.Errorf("annotation %q at the end", now)
	}
}

// Where a cluster's API server does not answer, drain says so and what can be done:
// the others keep away from it by their own links.
func TestDrainWithoutItsServer(t *testing.T) {
	mesh.Needs(t, ThirdCluster, Time)
	const ns = "drain-by-peers"
	for _, c := range []*Cluster{mesh.East, mesh.West, mesh.North} {
		c.Namespace(t, ns, true)
	}
	for _, c := range []*Cluster{mesh.West, mesh.North} {
		c.Apply(t, ns, echoFile)
		c.ApplyYAML(t, ns, exportOf("echo"))
		c.Ready(t, ns, "app=echo", 1)
	}
	const url = "http://echo." + ns + ".svc.clusterset.local"
	caller := NewCaller(t, mesh.East, ns)
	caller.Reaches(t, url, time.Minute, "north", "west")

	config, err := clientcmd.LoadFromFile(mesh.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.Clusters[config.Contexts["west"].Cluster].Server = "https://127.0.0.1:9" // discard: nobody listens
	dark := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, dark); err != nil {
		t.Fatal(err)
	}
	mesh.Cleanup(t, "undrain", "west", "--steps", "100", "--force")
	if _, err := mesh.run(t.Context(), "drain", "west", "--kubeconfig", dark); err == nil || !strings.Contains(err.Error(), "isthmus drain west --by-peers") {
		t.Errorf("drain: %v", err)
	}
	traffic := caller.Traffic(t, url, 100, 3*time.Minute)
	traffic.Flowing(100)
	if d := mesh.drain(t, "drain", "west", "--by-peers", "--kubeconfig", dark); d.Stage != "draining" || !d.Moved || d.Empty {
		t.Errorf("drain by peers: %+v", d)
	}
	answeredBy(t, traffic, "north", 10*time.Second)
	traffic.Flowing(200)
	if d := mesh.drain(t, "undrain", "west", "--steps", "50,100", "--over", "4s", "--kubeconfig", dark); d.Stage != "in use" {
		t.Errorf("undrain: %+v", d)
	}
	caller.Reaches(t, url, 20*time.Second, "north", "west")
	if lost := failures(traffic.Stop()); lost != "" {
		t.Error(lost)
	}
}

// Callers without a sidecar leave their own cluster with the rest while it is
// drained, and come back to it; no connection of theirs is refused on the way.
func TestDrainWithoutSidecar(t *testing.T) {
	mesh.Needs(t, SeparateNetworks, Time)
	const ns, url = "drain-bare", "http://echo.drain-bare.svc.clusterset.local"
	exportedEcho(t, ns, mesh.East, mesh.West)
	bare := bareCaller(t, ns+"-caller")
	bare.Reaches(t, url, time.Minute, "east")
	mesh.Cleanup(t, "undrain", "east", "--steps", "100", "--force")
	// kube-proxy chooses for each connection, and one that is open stays where it is.
	traffic := bare.Traffic(t, url, 50, 5*time.Minute, "--new-connections")
	traffic.Flowing(50)
	if d := mesh.drain(t, "drain", "east", "--timeout", "90s"); !d.Moved {
		t.Errorf("drain: %+v", d)
	}
	answeredBy(t, traffic, "west", 20*time.Second)
	bare.Reaches(t, url, 20*time.Second, "west")
	if d := mesh.drain(t, "undrain", "east", "--over", "6s"); d.Stage != "in use" {
		t.Errorf("undrain: %+v", d)
	}
	bare.Reaches(t, url, 20*time.Second, "east")
	if lost := failures(traffic.Stop()); lost != "" {
		t.Error(lost)
	}
}
