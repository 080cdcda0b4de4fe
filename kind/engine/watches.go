package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// watchesFile is how many inotify instances one user may have. A cluster needs
// some 30 of root's, and Linux gives 128: the fourth cluster, or the second
// beside other work, would fail with "too many open files".
const watchesFile = "/proc/sys/fs/inotify/max_user_instances"

// enoughWatches is what kind's own notes advise.
const enoughWatches = 512

// RaiseWatches lifts the limit where it is low, and notes what it was.
func (e Engine) RaiseWatches() error {
	have, err := watches()
	if err != nil || have >= enoughWatches {
		return err
	}
	if err := os.MkdirAll(e.Run, 0o711); err != nil {
		return err
	}
	if err := os.WriteFile(e.watchesBefore(), []byte(strconv.Itoa(have)), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(watchesFile, []byte(strconv.Itoa(enoughWatches)), 0); err != nil {
		e.Progress.Say("machine", "fs.inotify.max_user_instances is %d: clusters may fail with \"too many open files\"; %d is advised (%v)", have, enoughWatches, err)
		return os.Remove(e.watchesBefore())
	}
	e.Progress.Say("machine", "raised fs.inotify.max_user_instances from %d to %d; kind-down puts it back", have, enoughWatches)
	return nil
}

// RestoreWatches puts the limit back, unless somebody has changed it since.
func (e Engine) RestoreWatches() error {
	before, err := os.ReadFile(e.watchesBefore())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if have, err := watches(); err != nil || have != enoughWatches {
		return errors.Join(err, os.Remove(e.watchesBefore()))
	}
	return errors.Join(os.WriteFile(watchesFile, before, 0), os.Remove(e.watchesBefore()))
}

func (e Engine) watchesBefore() string { return filepath.Join(e.Run, "inotify-instances") }

func watches() (int, error) {
	text, err := os.ReadFile(watchesFile)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", watchesFile, err)
	}
	return n, nil
}
