package nodeimage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/kind/cache"
)

// store unpacks the cluster's images once, so that a node starts with them in
// place: a layer with var/lib/containerd.
func (b Builder) store(ctx context.Context, p parts) (string, error) {
	step := cache.Step{
		Name: "image-store", Inputs: append(keys(p.images, p.containerd), layout),
		Build: func(ctx context.Context, out string) error { return unpack(ctx, p, out) },
	}
	return b.Cache.Ensure(ctx, step)
}

// storeConfig is that of a containerd which knows images and no pods.
const storeConfig = `version = 3
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.nri.v1.nri"]
[grpc]
  address = %q
[ttrpc]
  address = %q
`

// unpack imports the archive by a containerd that lives for this moment.
func unpack(ctx context.Context, p parts, out string) error {
	state, err := os.MkdirTemp("", "isthmus-kind-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(state)
	tree := filepath.Join(out, "tree")
	root := filepath.Join(tree, "var/lib/containerd")
	if err := os.MkdirAll(root, 0o711); err != nil {
		return err
	}
	socket, config := filepath.Join(state, "c.sock"), filepath.Join(state, "config.toml")
	text := fmt.Sprintf(storeConfig, root, filepath.Join(state, "state"), socket, filepath.Join(state, "t.sock"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	stop, err := serve(p, config, filepath.Join(state, "log"))
	if err != nil {
		return err
	}
	if err := errors.Join(importInto(ctx, p, socket), stop()); err != nil {
		return err
	}
	for _, rest := range []string{"io.containerd.content.v1.content/ingest", "tmpmounts"} {
		if err := os.RemoveAll(filepath.Join(root, rest)); err != nil {
			return err
		}
	}
	return errors.Join(pack(ctx, tree, filepath.Join(out, "store.tar")), os.RemoveAll(tree))
}

// serve starts containerd; stop ends it and waits.
func serve(p parts, config, log string) (stop func() error, err error) {
	said, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer said.Close()
	cmd := exec.Command(filepath.Join(p.containerd, "containerd"), "--config", config)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		return cmd.Wait()
	}, nil
}

// importInto waits until containerd answers, and has it unpack the images.
func importInto(ctx context.Context, p parts, socket string) error {
	ctr := func(args ...string) error {
		cmd := exec.CommandContext(ctx, filepath.Join(p.containerd, "ctr"), append([]string{"--address", socket, "--namespace", "k8s.io"}, args...)...)
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("ctr %s: %w\n%s", args[0], err, said)
		}
		return nil
	}
	limit, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for ctr("version") != nil {
		select {
		case <-limit.Done():
			return fmt.Errorf("containerd does not answer: %w", limit.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
	return ctr("images", "import", "--local", "--snapshotter", "overlayfs", filepath.Join(p.images, "images.tar"))
}
