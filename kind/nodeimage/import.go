package nodeimage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/isthmus-mesh/isthmus/kind/engine"
)

// layout changes whenever this package puts files elsewhere.
const layout = "1"

// importImage has Docker import Debian, our files and the image store as one
// layer. An import cannot set a stop signal, so an empty layer above it does.
func (b Builder) importImage(ctx context.Context, p parts, name string) error {
	over, err := os.MkdirTemp("", "isthmus-kind-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(over)
	if err := overlay(p, over); err != nil {
		return err
	}
	const base = "isthmus-kind/node-base:new"
	tar := exec.CommandContext(ctx, "tar", "--numeric-owner", "-c",
		"-C", filepath.Join(p.debian, "root"), ".", "-C", over, ".", "-C", p.store, "./var")
	if err := engine.Pipe(tar, exec.CommandContext(ctx, "docker", "import", "-", base)); err != nil {
		return err
	}
	recipe := "FROM " + base + "\nENV container=docker\nSTOPSIGNAL SIGRTMIN+3\nENTRYPOINT [\"/usr/local/bin/isthmus-node\", \"boot\"]\n"
	build := exec.CommandContext(ctx, "docker", "build", "--quiet", "--tag", name, "-")
	build.Env = append(os.Environ(), "DOCKER_BUILDKIT=0") // the older builder needs no second program
	build.Stdin = strings.NewReader(recipe)
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("docker build: %w\n%s", err, said)
	}
	_, err = engine.Output(ctx, "docker", "image", "rm", base)
	return err
}

// masked units have no place in a container, or would change the machine's own settings.
var masked = strings.Fields(`systemd-sysctl.service systemd-modules-load.service systemd-udevd.service systemd-remount-fs.service
	systemd-logind.service systemd-random-seed.service systemd-timesyncd.service systemd-hwdb-update.service systemd-update-utmp.service
	getty@.service console-getty.service e2scrub_reap.service systemd-machine-id-commit.service systemd-firstboot.service
	proc-sys-fs-binfmt_misc.automount dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount
	sys-kernel-config.mount sys-fs-fuse-connections.mount systemd-udevd-kernel.socket systemd-udevd-control.socket
	systemd-tmpfiles-clean.timer apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer dpkg-db-backup.timer fstrim.timer
	getty.target swap.target tmp.mount`)

// units run on the node.
var units = []string{"containerd", "kubelet", "node-dns"}

// overlay writes what a node has beside Debian into dir.
func overlay(p parts, dir string) error {
	o := &writer{dir: dir}
	o.dirs("kind/manifests", "kind/kubelet.d", "opt/cni/bin", "etc/cni/net.d", "etc/kubernetes", "var/lib/kubelet")
	o.text("kind/version", Kubernetes)
	o.file("kind/kubelet.d/50-node.conf", "kubelet.yaml")
	o.file("kind/cni.conflist.tmpl", "cni.conflist.tmpl")
	o.file("kind/manifests/default-cni.yaml", "default-cni.yaml")
	o.file("kind/manifests/default-storage.yaml", "default-storage.yaml")
	o.text("etc/crictl.yaml", "runtime-endpoint: unix:///run/containerd/containerd.sock\n")
	o.text("etc/machine-id", "")
	o.text("etc/systemd/journald.conf.d/node.conf", "[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\nForwardToConsole=no\n")
	o.containerdConfig(p)
	o.program("usr/bin/stock", filepath.Join(p.kubernetes, "stock"), "kubelet", "kubeadm", "kubectl")
	o.program("usr/local/bin/isthmus-node", filepath.Join(p.node, "isthmus-node"), "runc-fit")
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
		o.program("usr/local/bin/"+name, filepath.Join(p.containerd, name))
	}
	for _, name := range []string{"ptp", "loopback", "host-local", "portmap"} {
		o.program("opt/cni/bin/"+name, filepath.Join(p.cni, name))
	}
	const system = "etc/systemd/system/"
	for _, unit := range units {
		o.file(system+unit+".service", unit+".service")
		o.link(system+"multi-user.target.wants/"+unit+".service", "/"+system+unit+".service")
	}
	for _, unit := range masked {
		o.link(system+unit, "/dev/null")
	}
	o.link(system+"default.target", "/lib/systemd/system/multi-user.target")
	return o.err
}

// A writer writes files below dir, and keeps the first errors.
type writer struct {
	dir string
	err error
}

func (w *writer) path(name string) string {
	full := filepath.Join(w.dir, name)
	w.err = errors.Join(w.err, os.MkdirAll(filepath.Dir(full), 0o755))
	return full
}

func (w *writer) dirs(names ...string) {
	for _, name := range names {
		w.err = errors.Join(w.err, os.MkdirAll(w.path(name), 0o755))
	}
}

func (w *writer) text(name, text string) {
	w.err = errors.Join(w.err, os.WriteFile(w.path(name), []byte(text), 0o644))
}

// file writes one of files/.
func (w *writer) file(name, source string) {
	data, err := files.ReadFile("files/" + source)
	w.err = errors.Join(w.err, err)
	w.text(name, string(data))
}

func (w *writer) link(name, target string) {
	w.err = errors.Join(w.err, os.Symlink(target, w.path(name)))
}

// program copies a program, and links further names beside it.
func (w *writer) program(name, source string, names ...string) {
	w.err = errors.Join(w.err, copyProgram(w.path(name), source))
	for _, other := range names {
		w.link(filepath.Join(filepath.Dir(name), other), filepath.Base(name))
	}
}

func (w *writer) containerdConfig(p parts) {
	data, err := files.ReadFile("files/containerd.toml")
	names, err2 := os.ReadFile(filepath.Join(p.images, "names"))
	w.err = errors.Join(w.err, err, err2)
	for _, name := range strings.Fields(string(names)) {
		if strings.Contains(name, "/pause:") {
			w.text("etc/containerd/config.toml", strings.Replace(string(data), "@PAUSE@", name, 1))
			return
		}
	}
	w.err = errors.Join(w.err, errors.New("kubeadm names no pause image"))
}

func copyProgram(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
