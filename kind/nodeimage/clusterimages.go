package nodeimage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/isthmus-mesh/isthmus/kind/cache"
	"github.com/isthmus-mesh/isthmus/kind/images"
)

const searchPath = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// clusterImages makes the archive of the images that kubeadm asks for, under
// their own names.
func (b Builder) clusterImages(ctx context.Context, p parts) (string, error) {
	step := cache.Step{
		Name: "images", Inputs: append(keys(p.debian, p.kubernetes, p.coredns, p.node), layout),
		Build: func(ctx context.Context, out string) error { return buildImages(ctx, p, out) },
	}
	return b.Cache.Ensure(ctx, step)
}

func buildImages(ctx context.Context, p parts, out string) error {
	names, err := wantedNames(ctx, p)
	if err != nil {
		return err
	}
	byKind, err := makeImages(p)
	if err != nil {
		return err
	}
	byName := map[string]v1.Image{}
	for _, name := range names {
		base, _, _ := strings.Cut(path.Base(name), ":")
		image, ok := byKind[base]
		if !ok {
			return fmt.Errorf("kubeadm asks for %s, which nobody makes here", name)
		}
		byName[name] = image
	}
	if err := images.Save(filepath.Join(out, "images.tar"), byName); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "names"), []byte(strings.Join(names, "\n")), 0o644)
}

// wantedNames asks kubeadm which images a cluster of its version needs.
func wantedNames(ctx context.Context, p parts) ([]string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(p.kubernetes, "stock"), "config", "images", "list", "--kubernetes-version", Kubernetes)
	cmd.Args[0] = "kubeadm"
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("kubeadm config images list: %w", err)
	}
	return strings.Fields(string(out)), nil
}

// makeImages returns the images by the last part of their names. The control
// plane's are one image of one program, which goes by the name it is called under.
func makeImages(p parts) (map[string]v1.Image, error) {
	programs, err := images.Layer(stockFiles(p, "usr/local/bin/", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"))
	if err != nil {
		return nil, err
	}
	tools, err := toolFiles(filepath.Join(p.debian, "root"))
	if err != nil {
		return nil, err
	}
	toolLayer, err := images.Layer(tools)
	if err != nil {
		return nil, err
	}
	control, err1 := images.Image(v1.Config{Env: []string{searchPath}}, programs)
	proxy, err2 := images.Image(v1.Config{Env: []string{searchPath}}, programs, toolLayer)
	coredns, err3 := single(filepath.Join(p.coredns, "coredns"), "coredns")
	pause, err4 := single(filepath.Join(p.node, "isthmus-node"), "pause")
	return map[string]v1.Image{
		"etcd": control, "kube-apiserver": control, "kube-controller-manager": control, "kube-scheduler": control,
		"kube-proxy": proxy, "coredns": coredns, "pause": pause,
	}, errors.Join(err1, err2, err3, err4)
}

// stockFiles is the program of all Kubernetes below dir, with a link for each name.
func stockFiles(p parts, dir string, names ...string) []images.File {
	all := []images.File{{Path: dir + "stock", Source: filepath.Join(p.kubernetes, "stock")}, {Path: "tmp/", Mode: 0o1777}}
	for _, name := range names {
		all = append(all, images.File{Path: dir + name, Link: "stock"})
	}
	return all
}

func single(binary, as string) (v1.Image, error) {
	layer, err := images.Layer([]images.File{{Path: as, Source: binary}, {Path: "tmp/", Mode: 0o1777}})
	if err != nil {
		return nil, err
	}
	return images.Image(v1.Config{Entrypoint: []string{"/" + as}}, layer)
}
