package nodeimage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/compression"
	namepkg "github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/isthmus-mesh/isthmus/kind/images"
)

// layout changes whenever this package puts files elsewhere.
const layout = "1"

// importImage has Docker load an image of three layers: Debian, the cluster's
// images and what is ours. It keeps those layers that it has already.
func importImage(ctx context.Context, p parts, name string) error {
	image, err := nodeImage(p)
	if err != nil {
		return err
	}
	ref, err := namepkg.NewTag(name)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := tarball.Write(ref, image, w)
		w.CloseWithError(err)
		written <- err
	}()
	load := exec.CommandContext(ctx, "docker", "load", "--quiet")
	load.Stdin = r
	said, err := load.CombinedOutput()
	r.Close()
	if err := errors.Join(err, <-written); err != nil {
		return fmt.Errorf("docker load: %w\n%s", err, said)
	}
	return nil
}

func nodeImage(p parts) (v1.Image, error) {
	own, err := overlay(p)
	if err != nil {
		return nil, err
	}
	plain := tarball.WithCompression(compression.None) // it goes no further than Docker
	debian, err1 := tarball.LayerFromFile(filepath.Join(p.debian, "root.tar"), plain)
	store, err2 := tarball.LayerFromFile(filepath.Join(p.store, "store.tar"), plain)
	ours, err3 := images.Layer(own, plain)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	return images.Image(v1.Config{
		Env:        []string{"container=docker", searchPath},
		Entrypoint: []string{"/usr/local/bin/isthmus-node", "boot"},
		StopSignal: "SIGRTMIN+3", // systemd's for an orderly end
	}, debian, store, ours)
}
