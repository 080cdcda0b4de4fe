package nodeimage

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/kind/cache"
)

// NodeProgram builds isthmus-node, which the engine needs too.
func NodeProgram(root string) (cache.Step, error) {
	dir := filepath.Join(root, "kind")
	sources, err := cache.Sources(filepath.Join(dir, "cmd/isthmus-node"), filepath.Join(dir, "node"))
	if err != nil {
		return cache.Step{}, err
	}
	return cache.Step{
		Name: "isthmus-node", Inputs: []string{platform(), sources},
		Build: func(ctx context.Context, out string) error {
			return goBuild(ctx, dir, "-s -w", filepath.Join(out, "isthmus-node"), "./cmd/isthmus-node")
		},
	}, nil
}

// kubernetes is all of Kubernetes and etcd in one program (kind/stock). Its
// packages are those of the sandbox's Kubernetes, so Go's cache has most of them
// where that was built.
func (b Builder) kubernetes() (cache.Step, error) {
	dir := filepath.Join(b.Root, "kind/stock")
	sources, err := cache.Sources(dir)
	if err != nil {
		return cache.Step{}, err
	}
	const v = "k8s.io/component-base/version."
	minor := strings.Split(Kubernetes, ".")[1]
	flags := fmt.Sprintf("-s -w -X %sgitVersion=%s -X %[1]sgitMajor=1 -X %[1]sgitMinor=%[3]s -X %[1]sgitTreeState=clean -X k8s.io/client-go/pkg/version.gitVersion=%[2]s",
		v, Kubernetes, minor)
	return cache.Step{
		Name: "kubernetes", About: 6 * time.Minute, Inputs: []string{platform(), sources, flags},
		Build: func(ctx context.Context, out string) error {
			return goBuild(ctx, dir, flags, filepath.Join(out, "stock"), ".")
		},
	}, nil
}

// coredns is the sandbox's: stock CoreDNS with the plugins of a Corefile.
func (b Builder) coredns() (cache.Step, error) {
	dir := filepath.Join(b.Root, "sandbox/coredns")
	sources, err := cache.Sources(dir)
	if err != nil {
		return cache.Step{}, err
	}
	return cache.Step{
		Name: "coredns", About: time.Minute, Inputs: []string{platform(), sources},
		Build: func(ctx context.Context, out string) error {
			return goBuild(ctx, dir, "-s -w", filepath.Join(out, "coredns"), ".")
		},
	}, nil
}

func (b Builder) containerd() cache.Step {
	const module = "github.com/containerd/containerd/v2"
	return cache.Step{
		Name: "containerd", About: 90 * time.Second, Inputs: []string{platform(), containerd},
		Build: func(ctx context.Context, out string) error {
			return goInstall(ctx, out, "no_btrfs no_devmapper no_zfs no_aufs", "-X "+module+"/version.Version="+containerd, containerd,
				module+"/cmd/containerd", module+"/cmd/containerd-shim-runc-v2", module+"/cmd/ctr")
		},
	}
}

func (b Builder) cni() cache.Step {
	const plugins = "github.com/containernetworking/plugins/plugins"
	return cache.Step{
		Name: "cni-plugins", About: 10 * time.Second, Inputs: []string{platform(), cniPlugins},
		Build: func(ctx context.Context, out string) error {
			return goInstall(ctx, out, "", "", cniPlugins,
				plugins+"/main/ptp", plugins+"/main/loopback", plugins+"/ipam/host-local", plugins+"/meta/portmap")
		},
	}
}

func goBuild(ctx context.Context, dir, ldflags, out, pkg string) error {
	return goRun(ctx, dir, nil, "build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", out, pkg)
}

// goInstall builds commands of another module, of a version that Go's checksum
// database vouches for.
func goInstall(ctx context.Context, out, tags, ldflags, version string, packages ...string) error {
	args := []string{"install", "-trimpath", "-buildvcs=false", "-tags", tags, "-ldflags", "-s -w " + ldflags}
	for _, p := range packages {
		args = append(args, p+"@"+version)
	}
	return goRun(ctx, out, []string{"GOBIN=" + out}, args...)
}

func goRun(ctx context.Context, dir string, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s %s: %w\n%s", args[0], args[len(args)-1], err, out)
	}
	return nil
}
