// Package nodeimage builds a node image for kind where none can be pulled: from
// Debian's packages and Go modules alone. Each part is kept in a cache by what
// went into it, so only what changed is built.
package nodeimage

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/kind/cache"
	"github.com/isthmus-mesh/isthmus/kind/engine"
	"github.com/isthmus-mesh/isthmus/kind/progress"
)

// What the image is made of. Kubernetes' own images are named by kubeadm.
const (
	Kubernetes = "v1.36.3"
	containerd = "v2.4.2"
	cniPlugins = "v1.9.1"
	debian     = "bookworm" // its systemd still knows cgroup v1
)

// repository is the name of the images; the tag says what went in.
const repository = "isthmus-kind/node"

//go:embed files
var files embed.FS

// A Builder makes the image.
type Builder struct {
	Root     string // of this repository
	Cache    cache.Cache
	Progress *progress.Printer
}

// parts are the folders of what the steps made.
type parts struct {
	debian, node, kubernetes, coredns, containerd, cni string
	images, store                                      string
}

// Ensure returns the name of an image that Docker has, built where it was not there.
func (b Builder) Ensure(ctx context.Context) (string, error) {
	if err := b.tools(ctx); err != nil {
		return "", err
	}
	p, err := b.parts(ctx)
	if err != nil {
		return "", err
	}
	if p.images, err = b.clusterImages(ctx, p); err != nil {
		return "", err
	}
	if p.store, err = b.store(ctx, p); err != nil {
		return "", err
	}
	return b.image(ctx, p)
}

// tools brings what building needs and the machine lacks.
func (b Builder) tools(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("building a node image needs root (debootstrap, and mounts to unpack images)")
	}
	if _, err := engine.Output(ctx, "go", "version"); err != nil {
		return fmt.Errorf("building a node image needs Go 1.26: %w", err)
	}
	missing := engine.Missing(map[string]string{"debootstrap": "debootstrap"})
	if len(missing) == 0 {
		return nil
	}
	return engine.Install(ctx, b.Progress, missing)
}

// parts builds what does not depend on one another: Debian beside the
// compiling, which uses all cores by itself.
func (b Builder) parts(ctx context.Context) (parts, error) {
	var p parts
	var debianErr, goErr error
	var running sync.WaitGroup
	running.Go(func() { p.debian, debianErr = b.Cache.Ensure(ctx, b.debian()) })
	running.Go(func() { goErr = b.programs(ctx, &p) })
	running.Wait()
	return p, errors.Join(debianErr, goErr)
}

func (b Builder) programs(ctx context.Context, p *parts) error {
	for _, s := range []struct {
		dir  *string
		step func() (cache.Step, error)
	}{
		{&p.node, func() (cache.Step, error) { return NodeProgram(b.Root) }},
		{&p.containerd, func() (cache.Step, error) { return b.containerd(), nil }},
		{&p.cni, func() (cache.Step, error) { return b.cni(), nil }},
		{&p.coredns, b.coredns},
		{&p.kubernetes, b.kubernetes},
	} {
		step, err := s.step()
		if err != nil {
			return err
		}
		if *s.dir, err = b.Cache.Ensure(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

// image imports everything as one image, unless Docker has it.
func (b Builder) image(ctx context.Context, p parts) (string, error) {
	own, err := embedded()
	if err != nil {
		return "", err
	}
	step := cache.Step{Inputs: append(keys(p.debian, p.node, p.kubernetes, p.containerd, p.cni, p.store), own, layout)}
	name := repository + ":" + Kubernetes + "-" + step.Key()
	if _, err := engine.Output(ctx, "docker", "image", "inspect", name); err == nil {
		b.Progress.Say("node image", "%s is there", name)
		return name, nil
	}
	b.Progress.Say("node image", "loading into Docker (about 15s)")
	started := time.Now()
	if err := importImage(ctx, p, name); err != nil {
		return "", fmt.Errorf("node image: %w", err)
	}
	b.Progress.Say("node image", "%s, loaded in %.1f s", name, time.Since(started).Seconds())
	return name, remove(ctx, name)
}

// Remove removes all node images of ours from Docker.
func Remove(ctx context.Context) error { return remove(ctx, "") }

// remove removes node images of other contents; one that a cluster uses stays.
func remove(ctx context.Context, keep string) error {
	out, err := engine.Output(ctx, "docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository)
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(out) {
		if name != keep {
			engine.Output(ctx, "docker", "image", "rm", name) // refused while in use
		}
	}
	return nil
}

// embedded is a hash of files/.
func embedded() (string, error) {
	entries, err := files.ReadDir("files")
	if err != nil {
		return "", err
	}
	var all []string
	for _, e := range entries {
		data, err := files.ReadFile(filepath.Join("files", e.Name()))
		if err != nil {
			return "", err
		}
		all = append(all, e.Name(), string(data))
	}
	return cache.Step{Inputs: all}.Key(), nil
}

// keys are what the steps' folders are named by: where the cache is does not matter.
func keys(dirs ...string) []string {
	out := make([]string, len(dirs))
	for i, dir := range dirs {
		out[i] = filepath.Base(dir)
	}
	return out
}

// platform is part of every program's inputs.
func platform() string { return runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH }
