package boot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const cgroupDir = "/sys/fs/cgroup"

// cgroups makes kubelet's root (kind sets cgroupRoot: /kubelet) in each
// hierarchy of version 1; an empty cpuset takes no process, so it is filled.
// With version 2 kubelet makes its own.
func cgroups() error {
	if _, err := os.Stat(filepath.Join(cgroupDir, "cgroup.controllers")); err == nil {
		say("cgroup v2")
		return nil
	}
	if err := unix.Mount("", cgroupDir, "", unix.MS_REMOUNT, ""); err != nil {
		say("%s stays read-only: %v", cgroupDir, err)
	}
	entries, err := os.ReadDir(cgroupDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() { // links are second names of a hierarchy
			if err := kubeletRoot(filepath.Join(cgroupDir, e.Name())); err != nil {
				return err
			}
		}
	}
	say("cgroup v1: made kubelet's root in each hierarchy")
	return nil
}

func kubeletRoot(hierarchy string) error {
	root := filepath.Join(hierarchy, "kubelet")
	if err := os.Mkdir(root, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		say("%v", err) // a hierarchy that kubelet does not use may be read-only
		return nil
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(hierarchy, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := errors.Join(err, os.WriteFile(filepath.Join(root, file), value, 0o644)); err != nil {
			return err
		}
	}
	return nil
}
