// Package build makes the programs of the sandbox from their sources, for tests
// and for whoever runs from a checkout. Installed programs need none of it.
package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const module = "module github.com/isthmus-mesh/isthmus\n"

// KubeVersion is what the API servers of sandbox and tests say they are.
const KubeVersion = "v1.36.3"

// A Program is a binary in the repository's bin folder.
type Program struct {
	Name    string   // file name in bin/
	Module  string   // folder of its Go module, relative to the repository
	Package string   // package to build, relative to Module
	LDFlags []string // beside -s and -w
	Sources []string // folders whose files make it stale, relative to the repository; empty asks the Go command each time
}

// Kube is etcd, Kubernetes and the container runtime.
func Kube() Program {
	const v = "k8s.io/component-base/version."
	return Program{
		Name: "isthmus-kube", Module: "sandbox/kube", Package: ".",
		LDFlags: []string{"-X", v + "gitVersion=" + KubeVersion, "-X", v + "gitMajor=1", "-X", v + "gitMinor=36", "-X", v + "gitTreeState=clean"},
		Sources: []string{"sandbox/kube"},
	}
}

// CoreDNS is the name server of a sandbox cluster.
func CoreDNS() Program {
	return Program{Name: "isthmus-coredns", Module: "sandbox/coredns", Package: ".", Sources: []string{"sandbox/coredns"}}
}

// Launcher holds the namespaces of a sandbox.
func Launcher() Program {
	return Program{
		Name: "isthmus-sandboxd", Module: ".", Package: "./cmd/isthmus-sandboxd",
		Sources: []string{"cmd/isthmus-sandboxd", "sandbox/launcher", "sandbox/container", "sandbox/plan"},
	}
}

// Sandbox is all that a sandbox needs.
func Sandbox() []Program { return []Program{Kube(), CoreDNS(), Launcher()} }

// Root finds the repository that the working directory is in.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(data), module) {
			return dir, nil
		}
	}
	return "", errors.New("find repository: no go.mod of Isthmus in this folder or above it")
}

// Ensure builds p into ROOT/bin unless it is newer than its sources, and
// returns its path. Any number of processes may call it at once: a file lock
// lets one build and the others wait.
func Ensure(ctx context.Context, root string, p Program) (string, error) {
	bin := filepath.Join(root, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, filepath.Join(bin, "."+p.Name+".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	out := filepath.Join(bin, p.Name)
	if fresh(root, out, p.Sources) {
		return out, nil
	}
	return out, p.build(ctx, root, out)
}

func (p Program) build(ctx context.Context, root, out string) error {
	started := time.Now()
	flags := strings.Join(append([]string{"-s", "-w"}, p.LDFlags...), " ")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", out+".new", p.Package)
	cmd.Dir = filepath.Join(root, p.Module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", p.Name, err, text)
	}
	// An edit made while the compiler ran must count as newer.
	if err := os.Chtimes(out+".new", started, started); err != nil {
		return err
	}
	return os.Rename(out+".new", out)
}

// fresh reports whether out is newer than every file in sources.
func fresh(root, out string, sources []string) bool {
	info, err := os.Stat(out)
	if err != nil || len(sources) == 0 {
		return false
	}
	stale := errors.New("stale")
	for _, dir := range sources {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := entry.Info()
			if err == nil && source.ModTime().After(info.ModTime()) {
				return stale
			}
			return err
		})
		if err != nil {
			return false
		}
	}
	return true
}

// lock takes an exclusive lock on path, waiting for it until ctx ends.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
