// Package sandbox runs real Kubernetes clusters on this machine without Docker,
// registry or virtual machine, as root or as an unprivileged user. See
// docs/sandbox.md for what it gives and what it cannot give.
package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-mesh/isthmus/sandbox/launcher"
	"github.com/isthmus-mesh/isthmus/sandbox/plan"
)

// The words of package plan that callers need.
type (
	Cluster = plan.Named
	Mode    = plan.Mode
	What    = plan.What
	Part    = plan.Part
	Status  = plan.Status
)

// Modes of a cut, what it takes away, and the parts of a cluster.
const (
	Refuse  = plan.Refuse
	Drop    = plan.Drop
	API     = plan.API
	Gateway = plan.Gateway
	All     = plan.All
	Control = plan.Control
	Node    = plan.Node
)

// Port cuts one TCP port of a cluster's node and LoadBalancer addresses.
func Port(n uint16) What { return plan.Port(n) }

// ErrNotRunning means that no sandbox runs in the folder.
var ErrNotRunning = errors.New("no sandbox is running")

// Options says which sandbox is wanted.
type Options struct {
	Clusters []Cluster // the first is contexts' default
	Dir      string    // state, logs, kubeconfig; empty means DefaultDir. It is the sandbox's alone
	Bin      string    // folder of the programs; empty looks in ISTHMUS_BIN and beside this program
	Bare     bool      // no CoreDNS
	// DieWithParent ends the sandbox when this process ends: for tests.
	DieWithParent bool
	Progress      func(Event) // called from several goroutines; nil is fine
}

// An Event is a step that was done.
type Event struct {
	Cluster string        `json:"cluster,omitempty"` // empty: the sandbox
	Step    string        `json:"step"`
	Elapsed time.Duration `json:"elapsed"` // since Up was called
}

// A Sandbox is a running sandbox. It goes on when this process ends.
type Sandbox struct {
	dir   string
	state plan.State
}

// DefaultDir is where a sandbox is kept when nothing else was said.
func DefaultDir() string {
	base := os.Getenv("XDG_STATE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = filepath.Join(os.TempDir(), fmt.Sprintf("isthmus-%d", os.Getuid()))
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "isthmus", "sandbox")
}

// Up starts a sandbox and returns when its clusters are ready to use. When one
// with the same clusters runs already, it is completed and returned; one with
// other clusters is an error. After an error nothing runs that did not before.
func Up(ctx context.Context, opts Options) (*Sandbox, error) {
	report := reporter(opts.Progress)
	if opts.Dir == "" {
		opts.Dir = DefaultDir()
	}
	var err error
	if opts.Dir, err = filepath.Abs(opts.Dir); err != nil {
		return nil, err
	}
	want, err := plan.New(opts.Clusters)
	if err != nil {
		return nil, err
	}
	s, err := Attach(opts.Dir)
	switch {
	case err == nil && !slices.Equal(s.state.Plan.Clusters, want.Clusters):
		return nil, fmt.Errorf("a sandbox with clusters %s runs already in %s: take it down first", names(s.state.Plan), opts.Dir)
	case err == nil:
		report("", "already running")
		return s, s.prepare(ctx, opts, report)
	case !errors.Is(err, ErrNotRunning):
		return nil, err
	}
	if s, err = launch(ctx, opts, want); err != nil {
		return nil, err
	}
	report("", "namespaces and networks made")
	if err := s.prepare(ctx, opts, report); err != nil {
		down := s.Down(context.WithoutCancel(ctx))
		return nil, errors.Join(err, down)
	}
	return s, nil
}

func reporter(progress func(Event)) func(cluster, step string) {
	started := time.Now()
	return func(cluster, step string) {
		if progress != nil {
			progress(Event{Cluster: cluster, Step: step, Elapsed: time.Since(started)})
		}
	}
}

func names(p plan.Plan) []string {
	var list []string
	for _, c := range p.Clusters {
		list = append(list, c.Name)
	}
	return list
}

// Attach returns the sandbox that runs in dir; empty means DefaultDir. The
// error wraps ErrNotRunning when there is none.
func Attach(dir string) (*Sandbox, error) {
	if dir == "" {
		dir = DefaultDir()
	}
	if _, err := os.Stat(filepath.Join(dir, plan.LockFile)); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrNotRunning, dir)
	}
	// Whoever holds the lock lives, or is just being killed: then it is free soon.
	state, stateErr := plan.ReadState(dir)
	unlock, err := launcher.Lock(dir)
	for deadline := time.Now().Add(10 * time.Second); err != nil && stateErr == nil && state.Ended() && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
		unlock, err = launcher.Lock(dir)
	}
	if err == nil {
		unlock()
		return nil, fmt.Errorf("%w in %s", ErrNotRunning, dir)
	}
	if stateErr != nil {
		return nil, fmt.Errorf("a sandbox holds %s but is not ready: %w", dir, errors.Join(err, stateErr))
	}
	return &Sandbox{dir: dir, state: state}, nil
}

// Dir is the sandbox's folder. Logs are in its folder logs.
func (s *Sandbox) Dir() string { return s.dir }

// Kubeconfig is the path of a kubeconfig with a context for each cluster, of
// the cluster's name. It works from the host, and from the host only.
func (s *Sandbox) Kubeconfig() string { return filepath.Join(s.dir, plan.KubeconfigFile) }

// Clusters lists the clusters with their addresses, in the order asked for.
func (s *Sandbox) Clusters() []plan.Cluster { return slices.Clone(s.state.Plan.Clusters) }

// NodeAddress is the address of cluster's node on the underlay, by which other
// clusters reach its API server (port 6443) and its NodePorts. Empty when there
// is no such cluster.
func (s *Sandbox) NodeAddress(cluster string) string {
	c, ok := s.state.Plan.Cluster(cluster)
	if !ok {
		return ""
	}
	return c.NodeAddress.String()
}

// Config returns a client configuration with all rights in cluster.
func (s *Sandbox) Config(cluster string) (*rest.Config, error) {
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: s.Kubeconfig()},
		&clientcmd.ConfigOverrides{CurrentContext: cluster},
	).ClientConfig()
}

// Down ends the sandbox and removes its folder's content.
func (s *Sandbox) Down(ctx context.Context) error { return Down(ctx, s.dir) }

func writeJSON(path string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}
