//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-mesh/isthmus/e2e/topology"
)

// Mesh is the linked clusters of a topology, driven by the programs that users have.
type Mesh struct {
	Dir        string // state of the CLI
	Kubeconfig string // path; a context for each cluster
	East, West *Cluster
	North      *Cluster // nil where the topology has no third; tests that do not need it leave it alone
	bin        string
	topology   topology.Topology
	ground     ground
	settings   settings
	facts      facts
}

// Start brings the clusters up, installs and links. It may be called when all of that was done before.
func Start(ctx context.Context, s settings) (*Mesh, error) {
	bin, err := filepath.Abs("../bin")
	if err != nil {
		return nil, err
	}
	top, err := topology.Read("../kind-configs", s.topology)
	if err != nil {
		return nil, err
	}
	m := &Mesh{Dir: s.dir, bin: bin, topology: top, settings: s, facts: newFacts(s)}
	m.ground = m.newGround()
	if err := m.timed("clusters", func() (err error) { m.Kubeconfig, err = m.ground.up(ctx); return err }); err != nil {
		return m, err
	}
	if err := m.Install(ctx); err != nil {
		return m, err
	}
	if err := m.timed("isthmus "+strings.Join(m.LinkArgs(), " "), func() error { _, err := m.run(ctx, m.LinkArgs()...); return err }); err != nil {
		return m, err
	}
	return m, m.connect()
}

// Install installs all clusters, or again as the flags say.
func (m *Mesh) Install(ctx context.Context, flags ...string) error {
	for _, args := range m.topology.Installations() {
		args = append(m.install(args), flags...)
		if err := m.timed("isthmus "+strings.Join(args, " "), func() error { _, err := m.run(ctx, args...); return err }); err != nil {
			return err
		}
	}
	return nil
}

// timed does one step, and says how long it took.
func (m *Mesh) timed(what string, do func() error) error {
	begin := time.Now()
	err := do()
	seconds := time.Since(begin).Seconds()
	fmt.Fprintf(os.Stderr, "%-90s %5.1f s\n", what, seconds)
	m.facts.Start = append(m.facts.Start, step{what, seconds})
	return err
}

func (m *Mesh) connect() error {
	for _, c := range m.topology.Clusters {
		cluster, err := newCluster(m.Kubeconfig, c)
		if err != nil {
			return err
		}
		switch c.Name {
		case "east":
			m.East = cluster
		case "west":
			m.West = cluster
		default:
			m.North = cluster
		}
	}
	return nil
}

// newGround returns the ground that the settings name.
func (m *Mesh) newGround() ground {
	if m.settings.ground == "kind" {
		return &kindGround{topology: m.topology, bin: m.bin}
	}
	return &sandboxGround{topology: m.topology, dir: m.sandboxDir(), cli: m.run}
}

func (m *Mesh) sandboxDir() string { return filepath.Join(m.Dir, "sandbox") }

// install completes the arguments of isthmus install by what the ground needs.
func (m *Mesh) install(args []string) []string {
	return slices.Concat([]string{"install"}, args, m.ground.installFlags())
}

// InstallArgs are the arguments that install one cluster as it was, or again.
func (m *Mesh) InstallArgs(c *Cluster) []string { return m.install(m.topology.Installation(c.Name)) }

// LinkArgs are the arguments that link all clusters.
func (m *Mesh) LinkArgs() []string { return append([]string{"link"}, m.topology.Names()...) }

// Down takes down what Start brought up.
func (m *Mesh) Down() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := m.ground.down(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// Explain prints what may tell why the start went wrong.
func (m *Mesh) Explain(w io.Writer) {
	for _, member := range m.topology.Clusters {
		c, err := newCluster(m.Kubeconfig, member)
		if err != nil {
			return
		}
		c.explain(w, "")
	}
}

func (m *Mesh) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(m.bin, "isthmus"), args...)
	cmd.Env = append(os.Environ(),
		"ISTHMUS_SANDBOX_DIR="+m.sandboxDir(),
		"ISTHMUS_HOME="+filepath.Join(m.Dir, "home"),
		"KUBECONFIG="+m.Kubeconfig)
	return cmd
}

// run returns what the CLI printed on stdout; the error holds stderr.
func (m *Mesh) run(ctx context.Context, args ...string) (string, error) {
	cmd := m.command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("isthmus %s: %w\n%s%s", strings.Join(args, " "), err, errs.String(), out.String())
	}
	return out.String(), nil
}

// CLI runs isthmus and fails the test where it fails.
func (m *Mesh) CLI(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := m.run(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Cleanup runs isthmus when the test ends, whatever became of it.
func (m *Mesh) Cleanup(t *testing.T, args ...string) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if _, err := m.run(ctx, args...); err != nil {
			t.Error(err)
		}
	})
}

// Clusters yields the two that every test uses, east first.
func (m *Mesh) Clusters() []*Cluster { return []*Cluster{m.East, m.West} }

// All yields every cluster of the topology.
func (m *Mesh) All() []*Cluster {
	if m.North == nil {
		return m.Clusters()
	}
	return append(m.Clusters(), m.North)
}

// Eventually asks until it is told nothing more is missing, and fails with the
// last answer after the time given.
func Eventually(t *testing.T, within time.Duration, what string, ask func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	last := errors.New("not asked yet")
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, within, last)
		case <-tick.C:
		}
	}
}

// Throughout asks again and again for that long, and fails at the first error.
func Throughout(t *testing.T, span time.Duration, what string, ask func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), span)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := ask(t.Context()); err != nil {
			t.Fatalf("%s: not throughout %s: %v", what, span, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func newCluster(kubeconfig string, m topology.Member) (*Cluster, error) {
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig},
		&clientcmd.ConfigOverrides{CurrentContext: m.Name}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig of %s: %w", m.Name, err)
	}
	cfg.QPS, cfg.Burst = 100, 200
	return connect(m, cfg)
}
