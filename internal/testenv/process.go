package testenv

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A process is a child that ends with this process, however that ends.
type process struct {
	cmd  *exec.Cmd
	log  string
	out  bytes.Buffer  // standard output; may be read after eof
	eof  chan struct{} // closed when standard output has ended
	done chan struct{} // closed when the process has ended
	once sync.Once
}

func startProcess(program, log string, args ...string) (*process, error) {
	stderr, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	cmd := exec.Command(program, args...)
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, log: log, eof: make(chan struct{}), done: make(chan struct{})}
	started := make(chan error)
	go p.hold(started, stdout)
	return p, <-started
}

// hold starts the process and stays on its thread until the process has
// ended, because the death signal comes when that thread ends.
func (p *process) hold(started chan<- error, stdout io.Reader) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	err := p.cmd.Start()
	started <- err
	if err != nil {
		close(p.eof)
		return
	}
	_, _ = io.Copy(&p.out, stdout)
	close(p.eof)
	_ = p.cmd.Wait()
}

// ready waits for the end of standard output, by which the program says that
// it is ready, and returns what it wrote.
func (p *process) ready(ctx context.Context, within time.Duration) ([]byte, error) {
	select {
	case <-p.eof:
	case <-time.After(within):
		return nil, fmt.Errorf("not ready after %v; its log ends:\n%s", within, p.tail())
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if p.out.Len() == 0 {
		<-p.done
		return nil, fmt.Errorf("ended: %v; its log ends:\n%s", p.cmd.ProcessState, p.tail())
	}
	return p.out.Bytes(), nil
}

func (p *process) kill() {
	p.once.Do(func() { _ = p.cmd.Process.Kill() })
	<-p.done
}

func (p *process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-2000):])
}
