package memory_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const limit = 96 << 20

// A program that holds little more than half of its limit, and leaves much behind,
// is killed by the kernel, but not where it minds the limit. What the user sets
// counts instead.
func TestKeepBelowLimit(t *testing.T) {
	program := filepath.Join(t.TempDir(), "eater")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./testdata/eater")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, test := range map[string]struct {
		args, env []string
		want      string
	}{
		"minded":     {args: []string{"keep"}, want: fmt.Sprint(limit * 9 / 10)},
		"not minded": {want: "signal: killed"},
		"user's own": {args: []string{"keep"}, env: []string{"GOMEMLIMIT=70MiB"}, want: fmt.Sprint(70 << 20)},
	} {
		t.Run(name, func(t *testing.T) {
			said, err := limited(t, exec.CommandContext(t.Context(), program, test.args...), test.env)
			if err != nil {
				said += err.Error()
			}
			if !strings.HasPrefix(said, test.want) {
				t.Errorf("it said %q, want %q", said, test.want)
			}
		})
	}
}

// limited runs a program in a memory cgroup of its own and returns what it said.
func limited(t *testing.T, cmd *exec.Cmd, env []string) (string, error) {
	t.Helper()
	cmd.Env = append(os.Environ(), env...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, io.Discard
	join := cgroup(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	join(cmd.Process.Pid)
	stdin.Close()
	err = cmd.Wait()
	return said.String(), err
}

// cgroup makes a memory cgroup with limit, of version 1 or 2, and returns how a
// process is moved there.
func cgroup(t *testing.T) (join func(pid int)) {
	t.Helper()
	root, file, swap, most := "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", limit // with swap
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		root, file, swap, most = "/sys/fs/cgroup", "memory.max", "memory.swap.max", 0
	}
	dir, err := os.MkdirTemp(root, "isthmus-test-")
	if err != nil {
		t.Skipf("SKIPPED, this is not tested: a memory cgroup cannot be made: %v", err)
	}
	t.Cleanup(func() {
		err := os.Remove(dir)
		for end := time.Now().Add(10 * time.Second); errors.Is(err, syscall.EBUSY) && time.Now().Before(end); err = os.Remove(dir) {
			runtime.Gosched() // the kernel has not let go of the last process yet
		}
		if err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, file), []byte(strconv.Itoa(limit)), 0o600); err != nil {
		t.Skipf("SKIPPED, this is not tested: a memory cgroup cannot be limited: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, swap), []byte(strconv.Itoa(most)), 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		t.Fatal(err) // a kernel that does not count swap has no such file
	}
	return func(pid int) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
