// Package engine makes sure that a Docker engine runs whose privileged
// containers work. An engine that is there already is left alone. Where none
// runs, Debian's is installed and started with a runtime that fits containers
// to the host (node/fit), in folders of its own.
package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/kind/progress"
)

// An Engine is the Docker engine of this machine.
type Engine struct {
	Data     string // dockerd's data, which outlives it
	Run      string // its pid file, its log, its sockets to containerd
	Node     string // the program isthmus-node, static
	Progress *progress.Printer
}

const where = "docker"

// probeImage holds isthmus-node alone.
const probeImage = "isthmus-kind/probe:1"

// Ensure returns when privileged containers run.
func (e Engine) Ensure(ctx context.Context) error {
	version, err := e.version(ctx)
	if err == nil {
		e.Progress.Say(where, "engine %s answers: left as it is", version)
		return e.prove(ctx)
	}
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		return fmt.Errorf("no engine answers at DOCKER_HOST=%s: start it, or unset DOCKER_HOST: %w", host, err)
	}
	if err := e.install(ctx); err != nil {
		return err
	}
	if version, err = e.version(ctx); err != nil { // else the package has started it
		if version, err = e.start(ctx); err != nil {
			return err
		}
	}
	e.Progress.Say(where, "engine %s answers", version)
	return e.prove(ctx)
}

func (e Engine) version(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := Output(ctx, "docker", "version", "--format", "{{.Server.Version}}")
	return strings.TrimSpace(out), err
}

// install brings what of Debian's is not there.
func (e Engine) install(ctx context.Context) error {
	missing := Missing(map[string]string{"dockerd": "docker.io", "docker": "docker.io", "runc": "runc", "iptables": "iptables"})
	if len(missing) == 0 {
		return nil
	}
	return Install(ctx, e.Progress, missing)
}

// prove runs a privileged container from an image that needs no registry.
func (e Engine) prove(ctx context.Context) error {
	if err := e.loadProbe(ctx); err != nil {
		return err
	}
	_, err := Output(ctx, "docker", "run", "--rm", "--privileged", "--network", "none", probeImage, "/isthmus-node", "true")
	_, gone := Output(ctx, "docker", "image", "rm", probeImage)
	if err == nil {
		return gone
	}
	if _, ours := e.pid(); ours {
		return fmt.Errorf("a privileged container does not run (log: %s): %w", e.log(), err)
	}
	if err := e.installRuntime(); err != nil {
		return err
	}
	return fmt.Errorf("a privileged container does not run in the engine that is here, which was left alone: stop it and run this again, "+
		"or give it the default runtime %s: %w", e.runtime(), err)
}

func (e Engine) loadProbe(ctx context.Context) error {
	if _, err := Output(ctx, "docker", "image", "inspect", probeImage); err == nil {
		return nil
	}
	tar := exec.CommandContext(ctx, "tar", "-C", filepath.Dir(e.Node), "-c", filepath.Base(e.Node))
	load := exec.CommandContext(ctx, "docker", "import", "-", probeImage)
	return Pipe(tar, load)
}

func (e Engine) log() string     { return filepath.Join(e.Run, "dockerd.log") }
func (e Engine) pidFile() string { return filepath.Join(e.Run, "dockerd.pid") }
func (e Engine) runtime() string { return filepath.Join(e.Data, "runc-fit") }

// Remove deletes what the engine kept: images and the node image's layers.
func (e Engine) Remove() error {
	if pid, ours := e.pid(); ours {
		return fmt.Errorf("dockerd runs with pid %d: stop it first", pid)
	}
	return errors.Join(os.RemoveAll(e.Data), os.RemoveAll(e.Run))
}

// alive reports whether a process is there and is dockerd.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err == nil && strings.TrimSpace(string(name)) == "dockerd"
}
