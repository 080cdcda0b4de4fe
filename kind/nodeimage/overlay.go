package nodeimage

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/kind/images"
)

// masked units have no place in a container, or would change the machine's own settings.
var masked = strings.Fields(`systemd-sysctl.service systemd-modules-load.service systemd-udevd.service systemd-remount-fs.service
	systemd-logind.service systemd-random-seed.service systemd-timesyncd.service systemd-hwdb-update.service systemd-update-utmp.service
	getty@.service console-getty.service e2scrub_reap.service systemd-machine-id-commit.service systemd-firstboot.service
	proc-sys-fs-binfmt_misc.automount dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount
	sys-kernel-config.mount sys-fs-fuse-connections.mount systemd-udevd-kernel.socket systemd-udevd-control.socket
	systemd-tmpfiles-clean.timer apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer dpkg-db-backup.timer fstrim.timer
	getty.target swap.target tmp.mount`)

// units run on the node.
var units = []string{"containerd.service", "kubelet.service", "node-dns.service"}

// overlay is what a node has beside Debian.
func overlay(p parts) ([]images.File, error) {
	config, err := containerdConfig(p)
	if err != nil {
		return nil, err
	}
	all := []images.File{
		{Path: "kind/version", Data: []byte(Kubernetes), Mode: 0o644},
		{Path: "etc/crictl.yaml", Data: []byte("runtime-endpoint: unix:///run/containerd/containerd.sock\n"), Mode: 0o644},
		{Path: "etc/machine-id", Mode: 0o644},
		{Path: "etc/containerd/config.toml", Data: config, Mode: 0o644},
		{Path: "etc/cni/net.d/"}, {Path: "etc/kubernetes/"}, {Path: "var/lib/kubelet/"},
		{Path: system + "default.target", Link: "/lib/systemd/system/multi-user.target"},
	}
	for _, unit := range units {
		all = append(all, images.File{Path: system + "multi-user.target.wants/" + unit, Link: "/" + system + unit})
	}
	for _, unit := range masked {
		all = append(all, images.File{Path: system + unit, Link: "/dev/null"})
	}
	embedded, err := embeddedFiles()
	return slices.Concat(all, embedded, programFiles(p)), err
}

const system = "etc/systemd/system/"

// places of files/ in the node.
var places = map[string]string{
	"kubelet.yaml": "kind/kubelet.d/50-node.conf", "cni.conflist.tmpl": "kind/cni.conflist.tmpl",
	"default-cni.yaml": "kind/manifests/default-cni.yaml", "default-storage.yaml": "kind/manifests/default-storage.yaml",
	"journald.conf": "etc/systemd/journald.conf.d/node.conf", "containerd.service": system + "containerd.service",
	"kubelet.service": system + "kubelet.service", "node-dns.service": system + "node-dns.service",
}

func embeddedFiles() ([]images.File, error) {
	var all []images.File
	for name, place := range places {
		data, err := files.ReadFile("files/" + name)
		if err != nil {
			return nil, err
		}
		all = append(all, images.File{Path: place, Data: data, Mode: 0o644})
	}
	return all, nil
}

// programFiles are all programs of the node, and the links by whose names they are called.
func programFiles(p parts) []images.File {
	all := []images.File{
		{Path: "usr/bin/stock", Source: filepath.Join(p.kubernetes, "stock")},
		{Path: "usr/local/bin/isthmus-node", Source: filepath.Join(p.node, "isthmus-node")},
		{Path: "usr/local/bin/runc-fit", Link: "isthmus-node"},
	}
	for _, name := range []string{"kubelet", "kubeadm", "kubectl"} {
		all = append(all, images.File{Path: "usr/bin/" + name, Link: "stock"})
	}
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
		all = append(all, images.File{Path: "usr/local/bin/" + name, Source: filepath.Join(p.containerd, name)})
	}
	for _, name := range []string{"ptp", "loopback", "host-local", "portmap"} {
		all = append(all, images.File{Path: "opt/cni/bin/" + name, Source: filepath.Join(p.cni, name)})
	}
	return all
}

// containerdConfig names the pause image that kubeadm wants.
func containerdConfig(p parts) ([]byte, error) {
	data, err := files.ReadFile("files/containerd.toml")
	if err != nil {
		return nil, err
	}
	names, err := os.ReadFile(filepath.Join(p.images, "names"))
	if err != nil {
		return nil, err
	}
	for _, name := range strings.Fields(string(names)) {
		if strings.Contains(name, "/pause:") {
			return bytes.Replace(data, []byte("@PAUSE@"), []byte(name), 1), nil
		}
	}
	return nil, errors.New("kubeadm names no pause image")
}
