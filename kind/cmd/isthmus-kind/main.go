// Command isthmus-kind brings real clusters up on this machine, by kind: with
// stock images where they can be pulled, with our own where not.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/kind/cache"
	"github.com/isthmus-mesh/isthmus/kind/clusters"
	"github.com/isthmus-mesh/isthmus/kind/engine"
	"github.com/isthmus-mesh/isthmus/kind/progress"
	"github.com/isthmus-mesh/isthmus/kind/topology"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // kind ends what it began; a second Ctrl-C does not wait for it
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "isthmus-kind:", err)
		os.Exit(1)
	}
}

// env is what every command needs, and where things are.
type env struct {
	root     string // of the repository
	cacheDir string
	data     string // dockerd's, where we start it
	run      string
	topology string
	image    string
	progress *progress.Printer
}

func newRoot() *cobra.Command {
	e := &env{progress: progress.New(os.Stderr)}
	cmd := &cobra.Command{
		Use: "isthmus-kind", Short: "Real clusters on this machine, by kind",
		SilenceUsage: true, SilenceErrors: true,
	}
	flags := cmd.PersistentFlags()
	flags.StringVar(&e.root, "root", ".", "the repository")
	flags.StringVar(&e.cacheDir, "cache", defaultCache(), "folder for what is built")
	flags.StringVar(&e.data, "docker-data", "/var/lib/isthmus-kind", "folder of dockerd's data, where it is started here")
	flags.StringVar(&e.run, "docker-run", "/run/isthmus-kind", "folder of its pid file and log")
	flags.StringVar(&e.topology, "topology", "multi-primary", "name of a file in kind-configs/")
	flags.StringVar(&e.image, "node-image", os.Getenv("NODE_IMAGE"), "node image; empty: kind's own where it can be pulled, else one that is built")
	cmd.AddCommand(newUp(e), newDown(e), newImages(e), newLoad(e))
	return cmd
}

func defaultCache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "isthmus", "kind")
}

func (e *env) cache() cache.Cache { return cache.Cache{Dir: e.cacheDir, Progress: e.progress} }

func (e *env) engine() engine.Engine {
	return engine.Engine{Data: e.data, Run: e.run, Progress: e.progress}
}

func (e *env) bin() string { return filepath.Join(e.root, "bin") }

func (e *env) lab() (clusters.Lab, error) {
	root, err := filepath.Abs(e.root)
	if err != nil {
		return clusters.Lab{}, err
	}
	e.root = root
	t, err := topology.Read(filepath.Join(root, "kind-configs"), e.topology)
	if err != nil {
		return clusters.Lab{}, err
	}
	return clusters.Lab{Topology: t, Image: e.image, Kubeconfig: filepath.Join(e.state(), "kubeconfig"), Progress: e.progress}, nil
}

// state is the folder that exists while clusters are up.
func (e *env) state() string { return filepath.Join(e.bin(), "kind") }

func (e *env) upFile() string { return filepath.Join(e.state(), "topology") }

// isUp returns the name of the topology that was brought up last, or "".
func (e *env) isUp() string {
	name, err := os.ReadFile(e.upFile())
	if err != nil {
		return ""
	}
	return string(name)
}
