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
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

// Mesh is three linked clusters on three networks, driven by the programs that users have.
type Mesh struct {
	Dir        string // state of the sandbox and of the CLI
	Kubeconfig string // path; a context for each cluster
	East, West *Cluster
	North      *Cluster // where a test needs a third; the others leave it alone
	bin        string
}

// Start brings the sandbox up, installs and links. It may be called on a
// directory whose clusters are up already.
func Start(ctx context.Context, dir string) (*Mesh, error) {
	bin, err := filepath.Abs("../bin")
	if err != nil {
		return nil, err
	}
	m := &Mesh{Dir: dir, bin: bin}
	for _, args := range [][]string{
		{"sandbox", "up", "--clusters", "east,west,north"},
		{"install", "east", "west", "north"},
		{"link", "east", "west", "north"},
	} {
		begin := time.Now()
		if args[0] == "install" {
			out, err := m.run(ctx, "sandbox", "kubeconfig")
			if err != nil {
				return m, err
			}
			m.Kubeconfig = strings.TrimSpace(out)
		}
		if _, err := m.run(ctx, args...); err != nil {
			return m, err
		}
		fmt.Fprintf(os.Stderr, "%-50s %5.1f s\n", "isthmus "+strings.Join(args, " "), time.Since(begin).Seconds())
	}
	for name, c := range map[string]**Cluster{"east": &m.East, "west": &m.West, "north": &m.North} {
		if *c, err = newCluster(m.Kubeconfig, name); err != nil {
			return m, err
		}
	}
	return m, nil
}

// Down takes the sandbox down.
func (m *Mesh) Down() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := m.run(ctx, "sandbox", "down"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// Explain prints what may tell why the start went wrong.
func (m *Mesh) Explain(w io.Writer) {
	for _, name := range []string{"east", "west", "north"} {
		c, err := newCluster(m.Kubeconfig, name)
		if err != nil {
			return
		}
		c.explain(w, "")
	}
}

func (m *Mesh) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(m.bin, "isthmus"), args...)
	cmd.Env = append(os.Environ(),
		"ISTHMUS_SANDBOX_DIR="+filepath.Join(m.Dir, "sandbox"),
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

func newCluster(kubeconfig, name string) (*Cluster, error) {
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig},
		&clientcmd.ConfigOverrides{CurrentContext: name}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig of %s: %w", name, err)
	}
	cfg.QPS, cfg.Burst = 100, 200
	return connect(name, cfg)
}
