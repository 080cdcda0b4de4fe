package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A stopped dockerd leaves chains in the packet filter, FORWARD's policy at DROP,
// forwarding on and empty cgroups. What we started we clean up after, so that the
// machine is as it was.

// forwardingFile says whether this machine forwards IPv4.
const forwardingFile = "/proc/sys/net/ipv4/ip_forward"

// forwardingBefore notes what it said before dockerd.
func (e Engine) forwardingBefore() string { return filepath.Join(e.Run, "ip-forward") }

// forwardBefore notes FORWARD's policy as it was before dockerd.
func (e Engine) forwardBefore() string { return filepath.Join(e.Run, "forward-policy") }

func (e Engine) notePolicy(ctx context.Context) error {
	rules, err := Output(ctx, "iptables", "-w", "-S", "FORWARD")
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(rules, "\n") // -P FORWARD ACCEPT
	forwarding, err := os.ReadFile(forwardingFile)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(e.forwardBefore(), []byte(first), 0o600), os.WriteFile(e.forwardingBefore(), forwarding, 0o600))
}

// restoreNetwork removes dockerd's rules and chains, and restores the policy
// and whether the machine forwards.
func (e Engine) restoreNetwork(ctx context.Context) error {
	var errs []error
	for _, table := range []string{"nat", "filter"} {
		rules, err := Output(ctx, "iptables", "-w", "-t", table, "-S")
		if err != nil {
			return err
		}
		for _, command := range Undo(rules) {
			_, err := Output(ctx, "iptables", append([]string{"-w", "-t", table}, command...)...)
			errs = append(errs, err)
		}
	}
	before, err := os.ReadFile(e.forwardBefore())
	if err == nil {
		_, err = Output(ctx, "iptables", append([]string{"-w"}, strings.Fields(string(before))...)...)
	}
	errs = append(errs, err)
	forwarding, err := os.ReadFile(e.forwardingBefore())
	if err == nil {
		err = os.WriteFile(forwardingFile, forwarding, 0)
	}
	return errors.Join(append(errs, err)...)
}

// Undo returns the arguments of those iptables commands that remove what
// dockerd made, given what iptables -S printed: rules that lead into its chains,
// what is in these, and at last the chains.
func Undo(rules string) [][]string {
	var lead, flush, remove [][]string
	for line := range strings.Lines(rules) {
		words := strings.Fields(line)
		switch {
		case len(words) == 2 && words[0] == "-N" && dockers(words[1]):
			flush = append(flush, []string{"-F", words[1]})
			remove = append(remove, []string{"-X", words[1]})
		case len(words) > 2 && words[0] == "-A" && !dockers(words[1]) && strings.Contains(line, "-j DOCKER"):
			lead = append(lead, append([]string{"-D"}, words[1:]...))
		}
	}
	return append(append(lead, flush...), remove...)
}

func dockers(chain string) bool {
	return chain == "DOCKER" || strings.HasPrefix(chain, "DOCKER-")
}

// removeCgroups removes the empty groups that dockerd keeps its containers in.
func removeCgroups() error {
	found, err := filepath.Glob("/sys/fs/cgroup/*/docker")
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range append(found, "/sys/fs/cgroup/docker", "/run/docker/plugins", "/run/docker") {
		if err := os.Remove(dir); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
