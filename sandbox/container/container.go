package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Main turns this process into the container's program. It returns the exit
// code for when that could not be done; the reason went to descriptor 4. The
// caller has locked the main goroutine to its thread: capabilities belong to it.
func Main() int {
	report := os.NewFile(errorFD, "error")
	unix.CloseOnExec(errorFD)
	if err := run(); err != nil {
		fmt.Fprint(report, err)
		return 127
	}
	return 0
}

func run() error {
	spec, err := readSpec()
	if err != nil {
		return err
	}
	if err := spec.makeRoot(); err != nil {
		return err
	}
	if err := enterRoot(spec.Root); err != nil {
		return err
	}
	if spec.ReadOnly {
		if err := remountReadOnly("/"); err != nil {
			return err
		}
	}
	return spec.become()
}

func readSpec() (*Spec, error) {
	var spec Spec
	file := os.NewFile(specFD, "spec")
	defer file.Close()
	if err := json.NewDecoder(file).Decode(&spec); err != nil {
		return nil, fmt.Errorf("read container spec: %w", err)
	}
	if len(spec.Args) == 0 {
		return nil, errors.New("the container has no command")
	}
	return &spec, nil
}

// enterRoot makes root the root file system and lets go of the old one.
func enterRoot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	return unix.Chdir("/")
}

func (s *Spec) become() error {
	dir := s.Dir
	if dir == "" {
		dir = "/"
	}
	if err := os.MkdirAll(dir, 0o755); err != nil && !s.ReadOnly {
		return err
	}
	if err := os.Chdir(dir); err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	program, err := s.lookPath()
	if err != nil {
		return err
	}
	if err := KeepCapabilities(s.Capabilities); err != nil {
		return err
	}
	if s.NoNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	return fmt.Errorf("start %s: %w", program, unix.Exec(program, s.Args, s.Env))
}

func (s *Spec) lookPath() (string, error) {
	for _, entry := range s.Env {
		if path, ok := strings.CutPrefix(entry, "PATH="); ok {
			os.Setenv("PATH", path)
		}
	}
	program, err := exec.LookPath(s.Args[0])
	if err != nil {
		return "", fmt.Errorf("start %s: %w", s.Args[0], errors.Unwrap(err))
	}
	return filepath.Abs(program)
}

// KeepCapabilities gives up all capabilities but keep, for the calling thread
// and what it executes.
func KeepCapabilities(keep []uint) error {
	var set [2]unix.CapUserData
	wanted := map[uint]bool{}
	for _, c := range keep {
		wanted[c] = true
		set[c/32].Permitted |= 1 << (c % 32)
	}
	for c := uint(0); c <= unix.CAP_LAST_CAP; c++ {
		if wanted[c] {
			continue
		}
		// EINVAL: the kernel does not know this one. EPERM with an empty
		// bounding set is met below.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		return err
	}
	for i := range set {
		set[i].Permitted &= have[i].Permitted
		set[i].Effective = set[i].Permitted
	}
	if err := unix.Capset(&header, &set[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	return nil
}
