package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// startStreaming opens the port by which kubelet reaches exec and port-forward.
func (s *Server) startStreaming() error {
	config := streaming.DefaultConfig
	config.Addr = "127.0.0.1:10251"
	server, err := streaming.NewServer(config, &streamRuntime{s})
	if err != nil {
		return err
	}
	s.streaming = server
	go func() { _ = server.Start(true) }()
	return nil
}

// execution runs command in c. The thread takes the container's view of files,
// network and processes, and its capabilities, before it starts the program.
func (c *container) execution(ctx context.Context, command []string, prepare func(*exec.Cmd) error) error {
	c.mu.Lock()
	process, ended := c.process, !c.finished.IsZero()
	c.mu.Unlock()
	if process == nil || ended {
		return status.Errorf(codes.FailedPrecondition, "container %s is not running", c.config.GetMetadata().GetName())
	}
	keep, err := capabilities(c.config.GetLinux().GetSecurityContext())
	if err != nil {
		return err
	}
	var cmd *exec.Cmd
	ran := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is inside the container
		ran <- func() error {
			if err := c.enter(process.Pid, keep); err != nil {
				return err
			}
			path, err := lookPath(command[0], c.env())
			if err != nil {
				return err
			}
			cmd = &exec.Cmd{Path: path, Args: command, Env: c.env(), Dir: c.workingDir()}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if err := prepare(cmd); err != nil {
				return err
			}
			return cmd.Start()
		}()
	}()
	if err := <-ran; err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, ok := errors.AsType[*exec.ExitError](err); ok {
			return utilexec.CodeExitError{Err: err, Code: int(exitCode(cmd.ProcessState))}
		}
		return err
	}
	return nil
}

func (c *container) workingDir() string {
	if dir := c.config.GetWorkingDir(); dir != "" {
		return dir
	}
	return "/"
}

func (c *container) enter(pid int, keep []uint) error {
	var fds []int
	for _, name := range []string{"pid", "mnt"} {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		fds = append(fds, fd)
	}
	if err := c.sandbox.ns.enter(); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	for _, fd := range fds {
		if err := unix.Setns(fd, 0); err != nil {
			return fmt.Errorf("enter the container: %w", err)
		}
	}
	return keepCapabilities(keep)
}

// keepCapabilities gives up the others, for this thread and its children.
func keepCapabilities(keep []uint) error {
	var set, have [2]unix.CapUserData
	for _, c := range keep {
		set[c/32].Permitted |= 1 << (c % 32)
	}
	for c := range capabilityNames {
		if set[c/32].Permitted&(1<<(c%32)) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %s: %w", capabilityNames[c], err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &have[0]); err != nil {
		return err
	}
	for i := range set {
		set[i].Permitted &= have[i].Permitted
		set[i].Effective = set[i].Permitted
	}
	return unix.Capset(&header, &set[0])
}

// lookPath finds program in the PATH of env, as seen by the calling thread.
func lookPath(program string, env []string) (string, error) {
	if bytes.ContainsRune([]byte(program), '/') {
		return program, nil
	}
	var path string
	for _, e := range env {
		if rest, ok := bytes.CutPrefix([]byte(e), []byte("PATH=")); ok {
			path = string(rest)
		}
	}
	for _, dir := range bytes.Split([]byte(path), []byte{':'}) {
		candidate := string(dir) + "/" + program
		if info, err := os.Stat(candidate); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return candidate, nil
		}
	}
	return "", utilexec.CodeExitError{Err: fmt.Errorf("%s: not found in the container", program), Code: 127}
}

// ExecSync runs a command, as probes and hooks do.
func (s *Server) ExecSync(ctx context.Context, req *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	c, err := s.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if t := req.GetTimeout(); t > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(t)*time.Second, errors.New("timed out"))
		defer cancel()
	}
	var stdout, stderr bytes.Buffer
	err = c.execution(ctx, req.GetCmd(), func(cmd *exec.Cmd) error {
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		return nil
	})
	answer := &runtimeapi.ExecSyncResponse{Stdout: stdout.Bytes(), Stderr: stderr.Bytes()}
	if exit, ok := errors.AsType[utilexec.CodeExitError](err); ok {
		answer.ExitCode = int32(exit.Code)
		return answer, nil
	}
	if ctx.Err() != nil {
		return nil, status.Errorf(codes.DeadlineExceeded, "command %q %v", req.GetCmd(), context.Cause(ctx))
	}
	return answer, err
}

// Exec runs a command with the caller's streams.
func (s *streamRuntime) Exec(ctx context.Context, id string, command []string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	c, err := s.container(id)
	if err != nil {
		return err
	}
	if tty {
		return c.terminal(ctx, command, in, out, resize)
	}
	return c.execution(ctx, command, func(cmd *exec.Cmd) error {
		if out != nil {
			cmd.Stdout = out
		}
		if errOut != nil {
			cmd.Stderr = errOut
		}
		if in == nil {
			return nil
		}
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(stdin, in)
			stdin.Close()
		}()
		return nil
	})
}

// terminal runs a command on a terminal of the container's own.
func (c *container) terminal(ctx context.Context, command []string, in io.Reader, out io.Writer, resize <-chan remotecommand.TerminalSize) error {
	var master *os.File
	copied := make(chan struct{})
	err := c.execution(ctx, command, func(cmd *exec.Cmd) error {
		var slave *os.File
		var err error
		if master, slave, err = openTerminal(); err != nil {
			return err
		}
		// Closed with the descriptors of the command's that Start leaves behind.
		context.AfterFunc(ctx, func() { slave.Close() })
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		cmd.Env = append(cmd.Env, "TERM=xterm")
		cmd.SysProcAttr.Setctty = true
		go func() {
			for size := range resize {
				_ = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Height, Col: size.Width})
			}
		}()
		if in != nil {
			go func() { _, _ = io.Copy(master, in) }()
		}
		go func() {
			defer close(copied)
			_, _ = io.Copy(out, master)
		}()
		return nil
	})
	if master != nil {
		_ = master.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		<-copied
		master.Close()
	}
	return err
}

// openTerminal opens a new terminal of the file system that the thread sees.
func openTerminal() (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open terminal: %w", err)
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, fmt.Errorf("unlock terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, fmt.Errorf("name terminal: %w", err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	return master, slave, err
}

// Attach is not offered.
func (s *streamRuntime) Attach(context.Context, string, io.Reader, io.WriteCloser, io.WriteCloser, bool, <-chan remotecommand.TerminalSize) error {
	return errors.New("the sandbox cannot attach to a running container; use exec or logs")
}

// PortForward connects stream to a port on the pod's loopback.
func (s *streamRuntime) PortForward(_ context.Context, id string, port int32, stream io.ReadWriteCloser) error {
	sb, err := s.sandbox(id)
	if err != nil {
		return err
	}
	defer stream.Close()
	var conn net.Conn
	err = sb.ns.in(func() (err error) {
		conn, err = net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", port), 5*time.Second)
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, stream)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stream, conn)
	return err
}

// streamRuntime keeps the streaming methods apart: their names are the CRI's.
type streamRuntime struct{ *Server }

// Exec tells where to connect for a command's streams.
func (s *Server) Exec(_ context.Context, req *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	return s.streaming.GetExec(req)
}

// Attach tells where to connect; connecting then fails with a reason.
func (s *Server) Attach(_ context.Context, req *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	return s.streaming.GetAttach(req)
}

// PortForward tells where to connect to a pod's ports.
func (s *Server) PortForward(_ context.Context, req *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	return s.streaming.GetPortForward(req)
}
