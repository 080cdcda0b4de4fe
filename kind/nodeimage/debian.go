package nodeimage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/kind/cache"
	"github.com/isthmus-mesh/isthmus/kind/engine"
)

// packages of the node beside Debian's least.
var packages = []string{
	"systemd", "systemd-sysv", "dbus", "iptables", "nftables", "iproute2", "conntrack", "ethtool", "kmod", "mount", "procps",
	"ca-certificates", "hostname", "netbase", "libseccomp2", "runc",
}

// rubbish is what no node reads.
var rubbish = []string{"var/cache/apt", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info"}

func (b Builder) debian() cache.Step {
	return cache.Step{
		Name: "debian", About: 2 * time.Minute, Inputs: append([]string{platform(), debian, layout}, packages...),
		Build: func(ctx context.Context, out string) error {
			root := filepath.Join(out, "root")
			cmd := exec.CommandContext(ctx, "debootstrap", "--variant=minbase", "--include="+strings.Join(packages, ","), debian, root)
			if said, err := cmd.CombinedOutput(); err != nil {
				lines := strings.Split(strings.TrimSpace(string(said)), "\n")
				return fmt.Errorf("debootstrap: %w\n%s", err, strings.Join(lines[max(0, len(lines)-10):], "\n"))
			}
			if err := empty(root); err != nil {
				return err
			}
			return pack(ctx, root, filepath.Join(out, "root.tar"))
		},
	}
}

// pack writes what is in dir as a layer.
func pack(ctx context.Context, dir, to string) error {
	_, err := engine.Output(ctx, "tar", "--numeric-owner", "--sort=name", "-c", "-f", to, "-C", dir, ".")
	return err
}

func empty(root string) (err error) {
	for _, dir := range rubbish {
		path := filepath.Join(root, dir)
		err = errors.Join(err, os.RemoveAll(path), os.MkdirAll(path, 0o755))
	}
	return err
}
