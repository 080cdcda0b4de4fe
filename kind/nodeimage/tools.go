package nodeimage

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/isthmus-mesh/isthmus/kind/images"
)

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
