package launcher

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/sandbox/plan"
)

// restartDelay is how long a process that ended by itself stays down.
const restartDelay = time.Second

// A process is one of a node's two programs. It is started again when it ends
// by itself, and stays down when it was killed by request.
type process struct {
	node *node
	part plan.Part
	log  *slog.Logger

	mu      sync.Mutex
	wanted  bool
	cmd     *exec.Cmd     // nil when not running
	ended   chan struct{} // closed when cmd has ended
	since   time.Time
	starts  int
	problem string
}

func newProcess(n *node, part plan.Part, log *slog.Logger) *process {
	return &process{node: n, part: part, log: log.With("cluster", n.cluster.Name, "part", string(part))}
}

// start starts the process unless it runs.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = true
	if p.cmd != nil {
		return nil
	}
	cmd, err := p.command()
	if err != nil {
		return err
	}
	started := make(chan error)
	ended := make(chan struct{})
	go p.hold(cmd, started, ended)
	if err := <-started; err != nil {
		return fmt.Errorf("start %s of %s: %w", p.part, p.node.cluster.Name, err)
	}
	p.cmd, p.ended, p.since, p.problem = cmd, ended, time.Now(), ""
	p.starts++
	return nil
}

// hold starts cmd in the node's network and waits for it, all on one thread:
// the death signal would come when the starting thread ends.
func (p *process) hold(cmd *exec.Cmd, started chan<- error, ended chan<- struct{}) {
	runtime.LockOSThread() // never unlocked: the thread has changed its network
	err := unix.Setns(p.node.netns, unix.CLONE_NEWNET)
	if err == nil {
		err = cmd.Start()
	}
	cmd.Stdout.(*os.File).Close() // the process has its own
	started <- err
	if err != nil {
		return
	}
	err = cmd.Wait()
	p.mu.Lock()
	p.cmd = nil
	again := p.wanted
	p.since = time.Now()
	if again {
		p.problem = fmt.Sprint("ended by itself: ", err)
		p.log.Error("process ended by itself", "err", err)
	}
	p.mu.Unlock()
	close(ended)
	if again {
		time.AfterFunc(restartDelay, p.revive)
	}
}

func (p *process) revive() {
	p.mu.Lock()
	wanted := p.wanted
	p.mu.Unlock()
	if !wanted {
		return
	}
	if err := p.start(); err != nil {
		p.log.Error("process not started again", "err", err)
	}
}

// kill ends the process without warning and waits until it has ended.
func (p *process) kill() {
	p.mu.Lock()
	p.wanted = false
	cmd, ended := p.cmd, p.ended
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Kill()
	<-ended
}

func (p *process) command() (*exec.Cmd, error) {
	c := p.node.cluster
	logs, err := os.OpenFile(fmt.Sprintf("%s/%s/%s-%s.log", insideState, plan.LogDir, c.Name, p.part), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	dir := fmt.Sprintf("%s/%s/%s", insideState, plan.ClustersDir, c.Name)
	sockets := "/run/isthmus/" + c.Name
	for _, d := range []string{dir, sockets} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	args := []string{string(p.part), "-name", c.Name, "-dir", dir + "/control", "-service-range", c.Services.String()}
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	switch p.part {
	case plan.Control:
		args = append(args, "-bind", c.APIServer(), "-socket-dir", sockets)
	case plan.Node:
		args = append(args,
			"-node-name", c.NodeName, "-node-address", c.NodeAddress.String(), "-api-server", c.APIServer(),
			"-pods", c.Pods.String(), "-dns", c.DNS.String(), "-load-balancers", c.LoadBalancers.String(),
			"-bin", insideBin, "-logs", dir+"/pod-logs")
		// First process of its namespace: when it ends, its pods end.
		attr.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS
	}
	cmd := exec.Command(insideBin+"/isthmus-kube", args...)
	cmd.Stdout, cmd.Stderr = logs, logs
	cmd.Env = append(os.Environ(), "GOGC=60", "HOME=/root")
	cmd.SysProcAttr = attr
	return cmd, nil
}

func (p *process) status() plan.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return plan.Process{
		Cluster: p.node.cluster.Name, Part: p.part, Running: p.cmd != nil,
		Since: p.since.UTC().Truncate(time.Millisecond), Starts: p.starts, Error: p.problem,
	}
}
