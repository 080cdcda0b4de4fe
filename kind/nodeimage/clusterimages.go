package nodeimage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
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
		Name: "images", Inputs: []string{p.debian, p.kubernetes, p.coredns, p.node, layout},
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

// tools are the packages that kube-proxy's image needs: iptables, nft, and
// their libraries.
var tools = []string{
	"libc6", "iptables", "libip4tc2", "libip6tc2", "libxtables12", "libmnl0", "libnftnl11", "libnfnetlink0", "libnetfilter-conntrack3",
	"conntrack", "nftables", "libnftables1", "libjansson4", "libgmp10", "libedit2", "libtinfo6", "libbsd0", "libmd0",
}

// toolFiles lists what those packages installed in root.
func toolFiles(root string) ([]images.File, error) {
	var all []images.File
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		all = append(all, images.File{Path: dir, Link: "usr/" + dir})
	}
	for _, p := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			all = append(all, images.File{Path: "usr/sbin/" + p + suffix, Link: "xtables-nft-multi"})
		}
	}
	for _, name := range tools {
		installed, err := installedFiles(root, name)
		if err != nil {
			return nil, err
		}
		all = append(all, installed...)
	}
	return all, nil
}

// installedFiles reads dpkg's list of one package.
func installedFiles(root, name string) ([]images.File, error) {
	lists, err := filepath.Glob(filepath.Join(root, "var/lib/dpkg/info", name+"*.list"))
	if err != nil {
		return nil, err
	}
	for _, list := range lists {
		base, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(list), ".list"), ":")
		if base == name {
			return listed(root, list)
		}
	}
	return nil, fmt.Errorf("package %s is not installed in %s", name, root)
}

func listed(root, list string) ([]images.File, error) {
	file, err := os.Open(list)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var all []images.File
	for lines := bufio.NewScanner(file); lines.Scan(); {
		f, err := installed(root, strings.TrimPrefix(lines.Text(), "/"))
		if err != nil {
			return nil, err
		}
		if f.Path != "" {
			all = append(all, f)
		}
	}
	return all, nil
}

// installed is one file of Debian as a file of a layer; an empty one for what
// is a directory, is not needed, or is gone.
func installed(root, name string) (images.File, error) {
	full := filepath.Join(root, name)
	info, err := os.Lstat(full)
	switch {
	case errors.Is(err, fs.ErrNotExist) || strings.HasPrefix(name, "usr/share/") || strings.Contains(name, "/gconv/"):
		return images.File{}, nil
	case err != nil:
		return images.File{}, err
	}
	if top, _, _ := strings.Cut(name, "/"); top == "lib" || top == "lib64" || top == "bin" || top == "sbin" {
		name = "usr/" + name // where the link leads
	}
	switch {
	case info.Mode().IsRegular():
		return images.File{Path: name, Source: full, Mode: int64(info.Mode().Perm())}, nil
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(full)
		return images.File{Path: name, Link: target}, err
	}
	return images.File{}, nil
}
