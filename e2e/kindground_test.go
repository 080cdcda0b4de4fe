//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/e2e/topology"
	"github.com/isthmus-mesh/isthmus/sandbox/capture"
)

// kindGround is clusters that make kind-up has brought up.
type kindGround struct {
	topology   topology.Topology
	bin        string
	kubeconfig string
}

// kindNode is the container that is a cluster's only node.
func kindNode(cluster string) string { return cluster + "-control-plane" }

func (g *kindGround) up(ctx context.Context) (string, error) {
	g.kubeconfig = filepath.Join(g.bin, "kind", "kubeconfig")
	name, err := os.ReadFile(filepath.Join(g.bin, "kind", "topology"))
	if err != nil {
		return "", fmt.Errorf("no kind clusters are up: make kind-up TOPOLOGY=%s, or make e2e, which does all: %w", g.topology.Name, err)
	}
	if string(name) != g.topology.Name {
		return "", fmt.Errorf("topology %s is up, not %s: make kind-down and make kind-up TOPOLOGY=%[2]s", name, g.topology.Name)
	}
	return g.kubeconfig, g.tagNext(ctx)
}

// tagNext gives the images a second tag, to which tests upgrade.
func (g *kindGround) tagNext(ctx context.Context) error {
	for _, c := range g.topology.Names() {
		for _, image := range []string{"isthmusd", "isthmus-proxy", "isthmus-samples"} {
			name := "docker.io/" + api.ImageHub + "/" + image
			if _, err := inNode(ctx, c, "ctr", "--namespace", "k8s.io", "images", "tag", "--force", name+":dev", name+":next"); err != nil {
				return err
			}
		}
	}
	return nil
}

// down leaves the clusters to make kind-down.
func (g *kindGround) down(ctx context.Context) error { return g.heal(ctx) }

// installFlags: kind has no load balancer.
func (g *kindGround) installFlags() []string {
	return []string{"--set", "gateway.serviceType=NodePort"}
}

// Cuts are rules in the node of the cluster that is cut off, in chains of their own before all others: what the node and
// its pods send is refused or dropped, and what comes back is dropped before anybody sees it, so open connections are cut too.
func (g *kindGround) cut(ctx context.Context, from, to, what, mode string) error {
	there, err := g.addresses(ctx, to)
	if err != nil {
		return err
	}
	var script strings.Builder
	script.WriteString("set -e\n")
	for _, hook := range cutHooks {
		fmt.Fprintf(&script, "iptables -w -t %[1]s -N ISTHMUS-CUT 2>/dev/null || true\n"+
			"iptables -w -t %[1]s -C %[2]s -j ISTHMUS-CUT 2>/dev/null || iptables -w -t %[1]s -I %[2]s -j ISTHMUS-CUT\n", hook[0], hook[1])
	}
	for _, end := range there.ends(what) {
		fmt.Fprintf(&script, "iptables -w -t raw -A ISTHMUS-CUT -s %s -j DROP\n", strings.Replace(end, "--dport", "--sport", 1))
		for _, verdict := range verdicts(end, mode) {
			fmt.Fprintf(&script, "iptables -w -t filter -A ISTHMUS-CUT -d %s %s\n", end, verdict)
		}
	}
	_, err = inNode(ctx, from, "sh", "-c", script.String())
	return err
}

// cutHooks are the tables and chains that lead into the chain of cuts.
var cutHooks = [][2]string{{"filter", "FORWARD"}, {"filter", "OUTPUT"}, {"raw", "PREROUTING"}}

func (g *kindGround) heal(ctx context.Context) error {
	for _, c := range g.topology.Names() {
		if _, err := inNode(ctx, c, "sh", "-c", "for t in filter raw; do iptables -w -t $t -F ISTHMUS-CUT 2>/dev/null || true; done"); err != nil {
			return err
		}
	}
	return nil
}

// addresses are where a cluster is reached from others.
type addresses struct {
	node     string
	pods     string // range
	gateways []int32
}

func (g *kindGround) addresses(ctx context.Context, cluster string) (addresses, error) {
	c, err := newCluster(g.kubeconfig, topology.Member{Name: cluster})
	if err != nil {
		return addresses{}, err
	}
	node, err := c.Kube.CoreV1().Nodes().Get(ctx, kindNode(cluster), metav1.GetOptions{})
	if err != nil {
		return addresses{}, err
	}
	a := addresses{pods: node.Spec.PodCIDR}
	for _, n := range node.Status.Addresses {
		if n.Type == corev1.NodeInternalIP {
			a.node = n.Address
		}
	}
	service, err := c.Kube.CoreV1().Services("isthmus-system").Get(ctx, api.EastWestName, metav1.GetOptions{})
	if err != nil {
		return addresses{}, err
	}
	for _, p := range service.Spec.Ports {
		a.gateways = append(a.gateways, p.NodePort)
	}
	return a, nil
}

// ends are iptables' matches for what is there, without the -d that they begin with.
func (a addresses) ends(what string) []string {
	ports := []int32{6443}
	switch what {
	case "all":
		return []string{a.node, a.pods}
	case "gateway":
		ports = a.gateways
	}
	var out []string
	for _, p := range ports {
		out = append(out, fmt.Sprintf("%s -p tcp --dport %d", a.node, p))
	}
	return out
}

// verdicts are iptables' targets for a mode, in order. A TCP connection is refused by a reset, all else by ICMP.
func verdicts(end, mode string) []string {
	switch {
	case mode == "drop":
		return []string{"-j DROP"}
	case strings.Contains(end, "-p tcp"):
		return []string{"-j REJECT --reject-with tcp-reset"}
	default:
		return []string{"-p tcp -j REJECT --reject-with tcp-reset", "-j REJECT"}
	}
}

func (g *kindGround) memory(ctx context.Context) (map[string]int64, error) {
	args := []string{"stats", "--no-stream", "--format", "{{json .}}"}
	for _, c := range g.topology.Names() {
		args = append(args, kindNode(c))
	}
	text, err := docker(ctx, args...)
	if err != nil {
		return nil, err
	}
	used := map[string]int64{}
	for line := range strings.Lines(text) {
		var s struct{ Name, MemUsage string }
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			return nil, err
		}
		if used[s.Name], err = parseMemory(s.MemUsage); err != nil {
			return nil, err
		}
	}
	return used, nil
}

// parseMemory reads Docker's "512.3MiB / 23.4GiB": the first.
func parseMemory(text string) (int64, error) {
	var n float64
	var unit string
	if _, err := fmt.Sscanf(text, "%f%s", &n, &unit); err != nil {
		return 0, fmt.Errorf("memory %q: %w", text, err)
	}
	factor, ok := map[string]float64{"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[unit]
	if !ok {
		return 0, fmt.Errorf("memory %q: unit %q", text, unit)
	}
	return int64(n * factor), nil
}

func inNode(ctx context.Context, cluster string, command ...string) (string, error) {
	return docker(ctx, append([]string{"exec", kindNode(cluster)}, command...)...)
}

// docker returns what it printed; the error holds what it said.
func docker(ctx context.Context, args ...string) (string, error) {
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args[:min(3, len(args))], " "), err, strings.TrimSpace(said.String()))
	}
	return out.String(), nil
}

func (g *kindGround) capture(ctx context.Context, w io.Writer, started func()) error {
	ports, err := g.bridgePorts(ctx)
	if err != nil {
		return err
	}
	return capture.Stream(ctx, w, ports, sync.OnceFunc(started))
}

// bridgePorts are the indexes of the devices that lead from the bridge to the nodes.
func (g *kindGround) bridgePorts(ctx context.Context) (map[int]bool, error) {
	id, err := docker(ctx, "network", "inspect", "--format", "{{.Id}}", "kind")
	if err != nil {
		return nil, err
	}
	names, err := os.ReadDir(filepath.Join("/sys/class/net", "br-"+id[:12], "brif"))
	if err != nil {
		return nil, err
	}
	ports := map[int]bool{}
	for _, name := range names {
		device, err := net.InterfaceByName(name.Name())
		if err != nil {
			return nil, err
		}
		ports[device.Index] = true
	}
	return ports, nil
}
