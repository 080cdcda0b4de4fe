package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/sandbox/launcher"
	"github.com/isthmus-mesh/isthmus/sandbox/plan"
)

// programs that a sandbox cannot be without.
var programs = []string{"isthmus-sandboxd", "isthmus-kube", "isthmus-coredns"}

// launch starts a launcher and waits until its namespaces stand.
func launch(ctx context.Context, opts Options, want plan.Plan) (*Sandbox, error) {
	bin, err := findPrograms(opts.Bin)
	if err != nil {
		return nil, err
	}
	if err := precheck(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, err
	}
	release, err := alone(opts.Dir)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := cleanFiles(opts.Dir); err != nil {
		return nil, err
	}
	for _, dir := range []string{filepath.Join(opts.Dir, plan.LogDir), filepath.Join(opts.Dir, plan.ClustersDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if err := writeJSON(filepath.Join(opts.Dir, plan.PlanFile), want); err != nil {
		return nil, err
	}
	ended, err := startLauncher(opts, bin)
	if err != nil {
		return nil, err
	}
	return waitForState(ctx, opts.Dir, ended)
}

// alone keeps two calls of Up in one folder apart.
func alone(dir string) (release func(), err error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		folder.Close()
		return nil, fmt.Errorf("a sandbox is being started in %s by somebody else; try again when it is done", dir)
	}
	if _, err := Attach(dir); !errors.Is(err, ErrNotRunning) {
		folder.Close()
		return nil, fmt.Errorf("a sandbox was started in %s by somebody else", dir)
	}
	return func() { folder.Close() }, nil
}

// findPrograms returns the folder that holds the programs.
func findPrograms(bin string) (string, error) {
	candidates := []string{bin}
	if bin == "" {
		candidates = []string{os.Getenv("ISTHMUS_BIN")}
		if self, err := os.Executable(); err == nil {
			if real, err := filepath.EvalSymlinks(self); err == nil {
				self = real
			}
			candidates = append(candidates, filepath.Dir(self))
		}
	}
	var missing []string
	for _, dir := range candidates {
		if dir == "" {
			continue
		}
		if missing = absent(dir); len(missing) == 0 {
			return filepath.Abs(dir)
		}
	}
	return "", fmt.Errorf("find the sandbox's programs: %s not in %s: run `make build`, or say where they are by ISTHMUS_BIN",
		strings.Join(missing, ", "), strings.Join(candidates, ", "))
}

func absent(dir string) []string {
	var missing []string
	for _, name := range programs {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			missing = append(missing, name)
		}
	}
	return missing
}

// precheck asks for what cannot be tried inside.
func precheck() error {
	if runtime.GOOS != "linux" {
		return errors.New("the sandbox needs Linux")
	}
	for program, why := range map[string]string{
		"nft":   "kube-proxy runs it: install the package nftables",
		"mount": "kubelet runs it: install the package mount or util-linux",
	} {
		if _, err := exec.LookPath(program); err != nil {
			if _, err := os.Stat("/usr/sbin/" + program); err != nil {
				return fmt.Errorf("the program %s is missing; %s", program, why)
			}
		}
	}
	return nil
}

// startLauncher starts the launcher apart from this process and its terminal.
func startLauncher(opts Options, bin string) (ended <-chan error, err error) {
	log, err := os.OpenFile(filepath.Join(opts.Dir, plan.LogDir, "launcher.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(bin, "isthmus-sandboxd"), "launch", "-dir", opts.Dir, "-bin", bin)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if opts.DieWithParent {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	started := make(chan error)
	done := make(chan error, 1)
	go func() {
		// The parent's death is that of the thread which starts a child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		log.Close()
		started <- err
		if err == nil {
			done <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start launcher: %w", err)
	}
	return done, nil
}

// waitForState waits until the launcher has written its state, or has ended.
func waitForState(ctx context.Context, dir string, ended <-chan error) (*Sandbox, error) {
	for {
		if state, err := plan.ReadState(dir); err == nil {
			return &Sandbox{dir: dir, state: state}, nil
		}
		select {
		case err := <-ended:
			if text, readErr := os.ReadFile(filepath.Join(dir, plan.ErrorFile)); readErr == nil {
				return nil, fmt.Errorf("start sandbox: %s", text)
			}
			return nil, fmt.Errorf("start sandbox: launcher ended: %w; see %s", err, filepath.Join(dir, plan.LogDir))
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), Down(context.WithoutCancel(ctx), dir))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Down ends the sandbox in dir, if one runs, and removes what is in dir.
// Twice does no harm.
func Down(ctx context.Context, dir string) error {
	if dir == "" {
		dir = DefaultDir()
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := end(ctx, dir); err != nil {
		return err
	}
	return clean(dir)
}

// end stops the launcher of dir and waits until it has let go of the lock.
func end(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		unlock, err := launcher.Lock(dir)
		if err == nil {
			unlock()
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		if state, err := plan.ReadState(dir); err == nil && lives(state) {
			_ = syscall.Kill(state.PID, syscall.SIGTERM)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end the sandbox in %s: %w", dir, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lives reports whether the launcher's PID still means the launcher.
func lives(state plan.State) bool {
	start, err := plan.StartTime(state.PID)
	return err == nil && start == state.Start && state.BootID == plan.BootID()
}

// clean removes what sandboxes leave in dir, and dir if nothing else is in it.
// The caller knows that no launcher lives.
func clean(dir string) error {
	if err := cleanFiles(dir); err != nil {
		return err
	}
	err := os.Remove(dir)
	if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) {
		return nil
	}
	return err
}

func cleanFiles(dir string) error {
	var failed []error
	for _, name := range []string{
		plan.StateFile, plan.StateFile + ".new", plan.PlanFile, plan.ErrorFile, plan.SocketFile,
		plan.KubeconfigFile, plan.KubeconfigFile + ".new", plan.ClustersDir, plan.LogDir, plan.LockFile,
	} {
		failed = append(failed, os.RemoveAll(filepath.Join(dir, name)))
	}
	return errors.Join(failed...)
}
