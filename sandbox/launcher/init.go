package launcher

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/sandbox/plan"
)

// Where things are inside, whatever their path outside.
const (
	insideState = "/run/isthmus/state" // the sandbox's folder
	insideBin   = "/run/isthmus/bin"
)

// Init is process 1 of the sandbox. It makes the networks, starts each
// cluster's two processes and serves the control socket. It ends when killed.
func Init(args []string) error {
	flags := flag.NewFlagSet("init", flag.ContinueOnError)
	dir := flags.String("dir", "", "the sandbox's folder")
	bin := flags.String("bin", "", "folder of the programs")
	if err := flags.Parse(args); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGPIPE)
	report := os.NewFile(3, "report")
	unix.CloseOnExec(3)
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	s, err := setUp(*dir, *bin, log)
	if err != nil {
		fmt.Fprint(report, err)
		return err
	}
	report.Close()
	return s.serve(context.Background())
}

type sandbox struct {
	plan    plan.Plan
	log     *slog.Logger
	control net.Listener
	relays  map[string]net.Listener // by cluster
	nodes   map[string]*node
}

// A node is the network namespace of one cluster's node, and what runs in it.
type node struct {
	cluster   plan.Cluster
	netns     int // descriptor
	processes map[plan.Part]*process
	cuts      []plan.Cut // guarded by sandbox's control server
}

func setUp(dir, bin string, log *slog.Logger) (*sandbox, error) {
	if err := mountInside(dir, bin); err != nil {
		return nil, hint(err, "the host lets namespaces be made but forbids mounts in them (AppArmor, a container's default profile?)")
	}
	p, err := readPlan(insideState)
	if err != nil {
		return nil, err
	}
	s := &sandbox{plan: p, log: log, relays: map[string]net.Listener{}, nodes: map[string]*node{}}
	if err := s.inherit(); err != nil {
		return nil, err
	}
	if err := makeUnderlay(); err != nil {
		return nil, hint(err, "the host lets namespaces be made but forbids network devices in them")
	}
	for _, c := range p.Clusters {
		n, err := makeNode(p, c)
		if err != nil {
			return nil, fmt.Errorf("make the node of %s: %w", c.Name, err)
		}
		s.nodes[c.Name] = n
	}
	for _, n := range s.nodes {
		for _, part := range []plan.Part{plan.Control, plan.Node} {
			n.processes[part] = newProcess(n, part, log)
			if err := n.processes[part].start(); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func hint(err error, text string) error {
	return fmt.Errorf("%w: %s; running it as root, outside of containers, is the other way", err, text)
}

// inherit takes the listeners that Launch opened: descriptors 4 and up.
func (s *sandbox) inherit() error {
	fd := uintptr(4)
	next := func() (net.Listener, error) {
		file := os.NewFile(fd, "listener")
		fd++
		defer file.Close()
		return net.FileListener(file) // a duplicate that is closed on exec
	}
	var err error
	if s.control, err = next(); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	for _, c := range s.plan.Clusters {
		if s.relays[c.Name], err = next(); err != nil {
			return fmt.Errorf("port of %s: %w", c.Name, err)
		}
	}
	return nil
}

// mountInside gives the sandbox a /proc and scratch folders of its own. The
// two folders that it shares with the host stay reachable under fixed paths.
func mountInside(dir, bin string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	// Opened first: the mounts below may hide them.
	state, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	programs, err := unix.Open(bin, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", bin, err)
	}
	for _, scratch := range []string{"/run", "/var/lib"} {
		if err := unix.Mount("tmpfs", scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
			return fmt.Errorf("mount %s: %w", scratch, err)
		}
	}
	return errors.Join(bindFD(state, insideState), bindFD(programs, insideBin))
}

func bindFD(fd int, target string) error {
	defer unix.Close(fd)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	source := filepath.Join("/proc/self/fd", fmt.Sprint(fd))
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}
