// Package launcher runs a sandbox. Launch stays in the host's namespaces, holds
// the folder's lock and the ports on loopback, and starts Init, the first
// process of the sandbox's own namespaces. When either ends, by whatever means,
// the kernel ends everything inside: nothing has to be found and cleaned.
package launcher

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/sandbox/plan"
)

// Launch runs the sandbox planned in a folder until it is told to stop.
func Launch(args []string) error {
	flags := flag.NewFlagSet("launch", flag.ContinueOnError)
	dir := flags.String("dir", "", "the sandbox's folder")
	bin := flags.String("bin", "", "folder of the programs")
	if err := flags.Parse(args); err != nil {
		return err
	}
	err := launch(*dir, *bin)
	if err != nil {
		_ = os.WriteFile(filepath.Join(*dir, plan.ErrorFile), []byte(err.Error()), 0o644)
	}
	return err
}

func launch(dir, bin string) error {
	unlock, err := Lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	p, err := readPlan(dir)
	if err != nil {
		return err
	}
	held, err := listen(dir, p)
	if err != nil {
		return err
	}
	child, failed, err := startInit(dir, bin, held.files)
	if err != nil {
		return err
	}
	defer os.Remove(filepath.Join(dir, plan.StateFile))
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		_ = child.Process.Kill()
	}()
	// Init closes its end when all is set up, or says what went wrong.
	if problem, _ := io.ReadAll(failed); len(problem) > 0 {
		_ = child.Wait()
		return errors.New(string(problem))
	}
	if err := writeState(dir, bin, p, child.Process.Pid, held.ports); err != nil {
		_ = child.Process.Kill()
		return err
	}
	// Killed is how it ends when asked to; anything else is in its log.
	_ = child.Wait()
	return nil
}

// Lock takes the folder's lock, which is free when no launcher lives.
func Lock(dir string) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(dir, plan.LockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return func() { file.Close() }, nil
}

func readPlan(dir string) (plan.Plan, error) {
	var p plan.Plan
	data, err := os.ReadFile(filepath.Join(dir, plan.PlanFile))
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(data, &p)
}

// held are the listeners that Init inherits: the control socket first, then
// one for each cluster's API server. Only Init gets them, so no port stays
// busy after a crash.
type held struct {
	files []*os.File
	ports map[string]int
}

func listen(dir string, p plan.Plan) (held, error) {
	h := held{ports: map[string]int{}}
	control, err := listenUnix(dir)
	if err != nil {
		return h, err
	}
	h.files = append(h.files, control)
	for _, c := range p.Clusters {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return h, err
		}
		h.ports[c.Name] = listener.Addr().(*net.TCPAddr).Port
		file, err := listener.(*net.TCPListener).File()
		if err != nil {
			return h, err
		}
		listener.Close() // file is a duplicate
		h.files = append(h.files, file)
	}
	return h, nil
}

// listenUnix listens in dir however long its path is: a socket's own path has
// at most 107 bytes.
func listenUnix(dir string) (*os.File, error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	if err := os.Remove(filepath.Join(dir, plan.SocketFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	path := fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), plan.SocketFile)
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	defer listener.Close()
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, err
	}
	return listener.(*net.UnixListener).File()
}

// startInit starts the first process of the sandbox's namespaces.
func startInit(dir, bin string, files []*os.File) (*exec.Cmd, *os.File, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer write.Close()
	log, err := os.OpenFile(filepath.Join(dir, plan.LogDir, "init.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe", "init", "-dir", dir, "-bin", bin)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = append([]*os.File{write}, files...)
	cmd.SysProcAttr = namespaces()
	if err := cmd.Start(); err != nil {
		return nil, nil, explain(err)
	}
	for _, file := range files {
		file.Close()
	}
	return cmd, read, nil
}

// namespaces is all that differs between root and anybody else.
func namespaces() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

// explain says what can be done where the host forbids namespaces.
func explain(err error) error {
	text := fmt.Sprintf("make namespaces: %v", err)
	if os.Geteuid() == 0 {
		return errors.New(text + ": this root may not make namespaces (a container without CAP_SYS_ADMIN?); run on the host, or in a privileged container")
	}
	read := func(path string) string {
		data, _ := os.ReadFile(path)
		return strings.TrimSpace(string(data))
	}
	switch {
	case read("/proc/sys/user/max_user_namespaces") == "0":
		text += ": user namespaces are switched off; an administrator can set user.max_user_namespaces to 10000"
	case read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
		text += ": user namespaces are for root only; an administrator can set kernel.unprivileged_userns_clone to 1"
	case read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
		text += ": AppArmor forbids user namespaces; an administrator can set kernel.apparmor_restrict_unprivileged_userns to 0"
	}
	return errors.New(text + "; or run it as root")
}

func writeState(dir, bin string, p plan.Plan, init int, ports map[string]int) error {
	start, err := plan.StartTime(os.Getpid())
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(plan.State{
		PID: os.Getpid(), Init: init, Start: start, BootID: plan.BootID(),
		Ports: ports, Bin: bin, Plan: p, Since: time.Now().UTC().Truncate(time.Second),
	}, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, plan.StateFile)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
