// Package node runs the only node of a cluster in this process: the real
// kubelet over our container runtime, kube-proxy, and a controller that gives
// Services of type LoadBalancer their addresses.
package node

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	logsapi "k8s.io/component-base/logs/api/v1"

	"github.com/isthmus-mesh/isthmus/sandbox/kube/control"
	"github.com/isthmus-mesh/isthmus/sandbox/kube/cri"
	"github.com/isthmus-mesh/isthmus/sandbox/kube/pki"
)

// Options configures a node.
type Options struct {
	Name          string // of the cluster
	NodeName      string
	Dir           string // the control process's folder: its authority signs for us
	Bin           string
	Logs          string // folder for the logs of pods
	APIServer     string // host:port
	NodeAddress   netip.Addr
	Pods          netip.Prefix
	LoadBalancers netip.Prefix
	DNS           netip.Addr
}

type node struct {
	Options
	pki *pki.Authority
	dir string // own files, gone with the process
}

// Run runs the node until ctx ends or a part of it fails. It must be the first
// process of a PID namespace and have a mount namespace of its own.
func Run(ctx context.Context, opts Options) error {
	if os.Getpid() != 1 {
		return fmt.Errorf("the node must be the first process of its PID namespace")
	}
	logsapi.ReapplyHandling = logsapi.ReapplyHandlingIgnoreUnchanged
	if err := mounts(); err != nil {
		return err
	}
	n := &node{Options: opts, dir: "/var/lib/isthmus"}
	for _, dir := range []string{n.dir, n.scratch(), opts.Logs} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := n.waitForAuthority(ctx); err != nil {
		return err
	}
	return n.run(ctx)
}

func (n *node) scratch() string { return filepath.Join(n.dir, "pods") }
func (n *node) socket() string  { return filepath.Join(n.dir, "cri.sock") }

// run starts all parts and returns when the first of them ends. It does not
// wait for the others: kube-proxy cannot be stopped, and the process ends now.
func (n *node) run(ctx context.Context) error {
	ended := make(chan error, 4)
	listening := make(chan struct{})
	go func() {
		runtime := cri.New(cri.Options{
			Socket: n.socket(), Bin: n.Bin, Scratch: n.scratch(),
			Pods: n.Pods, Gateway: n.Pods.Addr().Next(), NodeAddress: n.NodeAddress,
		})
		ended <- runtime.Run(ctx, func() { close(listening) })
	}()
	admin := filepath.Join(n.dir, "admin.kubeconfig")
	if err := n.kubeconfig(admin, "isthmus-sandbox-node", "system:masters"); err != nil {
		return err
	}
	// Kubelet and kube-proxy back off when nobody answers; waiting is faster.
	if err := control.WaitFor(ctx, admin, "/healthz/poststarthook/rbac/bootstrap-roles"); err != nil {
		return err
	}
	select {
	case err := <-ended:
		return fmt.Errorf("container runtime: %w", err)
	case <-listening:
	}
	go func() { ended <- n.runKubelet(ctx) }()
	go func() { ended <- n.runKubeProxy(ctx) }()
	go func() { ended <- n.runLoadBalancers(ctx, admin) }()
	return <-ended
}

// waitForAuthority waits until the control process has made its authority.
func (n *node) waitForAuthority(ctx context.Context) error {
	for {
		if _, err := os.Stat(filepath.Join(n.Dir, "ca.crt")); err == nil {
			n.pki, err = pki.Open(n.Dir)
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (n *node) kubeconfig(path, user string, groups ...string) error {
	return n.pki.WriteKubeconfig(path, n.Name, "https://"+n.APIServer, user, groups...)
}

// mounts gives the node a /proc and a /var/lib of its own, and keeps kubelet,
// which sets some values for the whole machine, from doing so.
func mounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("tmpfs", "/var/lib", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount /var/lib: %w", err)
	}
	for name, value := range map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	} {
		if err := shadow(filepath.Join("/proc/sys", name), value); err != nil {
			return err
		}
	}
	return nil
}

// shadow lays a file with value over path, if path exists.
func shadow(path, value string) error {
	if _, err := os.Stat(path); err != nil {
		return nil //nolint:nilerr // not every kernel has it
	}
	file := filepath.Join("/var/lib/sysctl", filepath.Base(path))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(value), 0o644); err != nil {
		return err
	}
	if err := unix.Mount(file, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("shadow %s: %w", path, err)
	}
	return nil
}
