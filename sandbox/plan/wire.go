package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Files in a sandbox's folder.
const (
	LockFile       = "lock"       // held by the launcher for as long as it lives
	PlanFile       = "plan.json"  // what was asked for
	StateFile      = "state.json" // who runs it; see State
	ErrorFile      = "error"      // why the launcher gave up, if it did
	SocketFile     = "control.sock"
	KubeconfigFile = "kubeconfig"
	LogDir         = "logs"
	ClustersDir    = "clusters"
)

// State is what the launcher writes once everything it holds is in place.
type State struct {
	PID    int            `json:"pid"`
	Init   int            `json:"init"`   // process in whose namespaces everything is
	Start  string         `json:"start"`  // start time of PID, in clock ticks since boot
	BootID string         `json:"bootID"` // a PID means nothing after a reboot
	Ports  map[string]int `json:"ports"`  // of each cluster's API server on the host's loopback
	Bin    string         `json:"bin"`
	Plan   Plan           `json:"plan"`
	Since  time.Time      `json:"since"`
}

// ReadState reads the state of the sandbox in dir.
func ReadState(dir string) (State, error) {
	var s State
	data, err := os.ReadFile(dir + "/" + StateFile)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("read %s: %w", StateFile, err)
	}
	return s, nil
}

// Ended reports whether the process that wrote s has ended, though it may still be
// giving up its files: its first thread is gone, or another process has its number.
func (s State) Ended() bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID))
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	fields := statFields(data)
	return len(fields) < startField+1 || fields[0] == "Z" || fields[0] == "X" || fields[startField] != s.Start
}

// startField is the start time's place among statFields.
const startField = 19

// statFields returns what follows a process's name, which stands in parentheses
// and may hold anything.
func statFields(stat []byte) []string {
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
}

// StartTime returns when process pid started, in clock ticks since boot.
func StartTime(pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	fields := statFields(data)
	if len(fields) < startField+1 {
		return "", fmt.Errorf("read /proc/%d/stat: %d fields", pid, len(fields))
	}
	return fields[startField], nil
}

// BootID names the running boot of this machine.
func BootID() string {
	data, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data))
}

// A Mode is how a cut answers.
type Mode string

const (
	Refuse Mode = "refuse" // connections are refused at once
	Drop   Mode = "drop"   // packets vanish
)

// What a cut takes away. The zero value is not valid.
type What string

const (
	API     What = "api"     // the API server
	Gateway What = "gateway" // all addresses of Services of type LoadBalancer
	All     What = "all"     // everything between the two clusters, both ways
)

// Port cuts one TCP port of node and LoadBalancer addresses.
func Port(n uint16) What { return What("port:" + strconv.Itoa(int(n))) }

// TCPPort returns the port that w names, and whether it names one.
func (w What) TCPPort() (uint16, bool) {
	text, ok := strings.CutPrefix(string(w), "port:")
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), ok && err == nil && n > 0
}

// A Cut takes something of cluster To away from cluster From.
type Cut struct {
	From string `json:"from"`
	To   string `json:"to"`
	What What   `json:"what"`
	Mode Mode   `json:"mode"`
}

// Validate checks c against the clusters of p.
func (c Cut) Validate(p Plan) error {
	for _, name := range []string{c.From, c.To} {
		if _, ok := p.Cluster(name); !ok {
			return fmt.Errorf("cut: no cluster %q", name)
		}
	}
	if c.From == c.To {
		return fmt.Errorf("cut: from %s to itself", c.From)
	}
	if c.Mode != Refuse && c.Mode != Drop {
		return fmt.Errorf("cut: mode %q: want %s or %s", c.Mode, Refuse, Drop)
	}
	if _, ok := c.What.TCPPort(); !ok && c.What != API && c.What != Gateway && c.What != All {
		return fmt.Errorf("cut: what %q: want %s, %s, %s or port:N", c.What, API, Gateway, All)
	}
	return nil
}

// A Part is one of a cluster's two processes.
type Part string

const (
	Control Part = "control" // etcd, API server, controller-manager, scheduler
	Node    Part = "node"    // kubelet, kube-proxy, container runtime; pods end with it
)

// Act asks for something to be done to a part.
type Act struct {
	Cluster string `json:"cluster"`
	Part    Part   `json:"part"`
	Action  string `json:"action"` // kill or start
}

// Status is what the processes of a sandbox are doing.
type Status struct {
	Processes []Process `json:"processes"`
	Cuts      []Cut     `json:"cuts"`
}

// Process is the state of one process.
type Process struct {
	Cluster string    `json:"cluster"`
	Part    Part      `json:"part"`
	Running bool      `json:"running"`
	Since   time.Time `json:"since"`
	Starts  int       `json:"starts"`          // how often it was started
	Error   string    `json:"error,omitempty"` // how it ended, when it was not asked to
}
