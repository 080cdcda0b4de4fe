package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startWithin is how long dockerd may take until it answers, on a loaded machine.
const startWithin = 2 * time.Minute

// start runs dockerd, apart from this process, and waits until it answers.
func (e Engine) start(ctx context.Context) (version string, err error) {
	if err := os.MkdirAll(e.Run, 0o711); err != nil {
		return "", err
	}
	if err := e.installRuntime(); err != nil {
		return "", err
	}
	if err := e.notePolicy(ctx); err != nil {
		return "", err
	}
	log, err := os.OpenFile(e.log(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer log.Close()
	cmd := exec.Command("dockerd", "--data-root", filepath.Join(e.Data, "docker"), "--exec-root", filepath.Join(e.Run, "exec"),
		"--pidfile", e.pidFile(), "--add-runtime", "fit="+e.runtime(), "--default-runtime", "fit",
		"--bridge", "none") // kind has a network of its own
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	e.Progress.Say(where, "starting dockerd, data in %s, log %s", e.Data, e.log())
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("start dockerd: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return e.await(ctx, ended)
}

func (e Engine) await(ctx context.Context, ended <-chan error) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for {
		if version, err := e.version(ctx); err == nil {
			return version, nil
		}
		select {
		case err := <-ended:
			return "", fmt.Errorf("dockerd ended (%v); its last words:\n%s", err, e.lastWords())
		case <-ctx.Done():
			return "", fmt.Errorf("dockerd does not answer: %w; its last words:\n%s", ctx.Err(), e.lastWords())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// lastWords are the last lines of dockerd's log.
func (e Engine) lastWords() string {
	data, err := os.ReadFile(e.log())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// installRuntime puts isthmus-node where dockerd finds it under its runtime's
// name; by rename, since an older one may be running.
func (e Engine) installRuntime() error {
	if err := os.MkdirAll(e.Data, 0o711); err != nil {
		return err
	}
	data, err := os.ReadFile(e.Node)
	if err != nil {
		return err
	}
	fresh := e.runtime() + ".new"
	if err := os.WriteFile(fresh, data, 0o755); err != nil {
		return err
	}
	return os.Rename(fresh, e.runtime())
}

// pid returns the process id of the dockerd that we started, while it lives.
func (e Engine) pid() (int, bool) {
	data, err := os.ReadFile(e.pidFile())
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	return pid, err == nil && alive(pid)
}

// Stop ends the dockerd that Ensure started, and waits; any other is left
// alone. It reports whether there was one.
func (e Engine) Stop(ctx context.Context) (bool, error) {
	pid, ours := e.pid()
	if !ours {
		return false, nil
	}
	e.Progress.Say(where, "stopping dockerd, pid %d", pid)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return true, fmt.Errorf("stop dockerd: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for alive(pid) {
		select {
		case <-ctx.Done():
			return true, fmt.Errorf("dockerd does not end: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
	return true, errors.Join(e.restoreNetwork(ctx), removeCgroups(), os.RemoveAll(e.Run))
}
