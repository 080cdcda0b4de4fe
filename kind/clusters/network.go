package clusters

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/isthmus-mesh/isthmus/kind/engine"
	"github.com/isthmus-mesh/isthmus/kind/topology"
)

// dockerNetwork is the one that kind puts all nodes into.
const dockerNetwork = "kind"

// Node is the name of a cluster's only node, which is also its container's.
func Node(c topology.Cluster) string { return c.Name + "-control-plane" }

func address(ctx context.Context, c topology.Cluster) (netip.Addr, error) {
	out, err := engine.Output(ctx, "docker", "inspect", "--format", "{{(index .NetworkSettings.Networks \""+dockerNetwork+"\").IPAddress}}", Node(c))
	if err != nil {
		return netip.Addr{}, err
	}
	addr, err := netip.ParseAddr(strings.TrimSpace(out))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("address of node %s: %w", Node(c), err)
	}
	return addr, nil
}

// join lets pods of one network reach one another by their own addresses: a
// route each way, and no masquerade on it. Addresses of pods of other networks
// lead nowhere: without that they would leave by the engine's default route and
// might reach something of the machine's own network.
func (l Lab) join(ctx context.Context) error {
	return l.each(func(c topology.Cluster) error {
		for _, other := range l.Topology.Neighbours(c) {
			via, err := address(ctx, other)
			if err != nil {
				return err
			}
			l.Progress.Say(c.Name, "pods of %s are one hop away, through %s", other.Name, via)
			if err := route(ctx, Node(c), other.Pods, via); err != nil {
				return err
			}
		}
		for _, other := range l.Topology.Strangers(c) {
			if _, err := inNode(ctx, Node(c), "ip", "route", "replace", "unreachable", other.Pods.String()); err != nil {
				return err
			}
		}
		return nil
	})
}

func route(ctx context.Context, node string, to netip.Prefix, via netip.Addr) error {
	if _, err := inNode(ctx, node, "ip", "route", "replace", to.String(), "via", via.String()); err != nil {
		return err
	}
	rule := []string{"POSTROUTING", "-d", to.String(), "-j", "ACCEPT"}
	if _, err := inNode(ctx, node, append([]string{"iptables", "-w", "-t", "nat", "-C"}, rule...)...); err == nil {
		return nil
	}
	_, err := inNode(ctx, node, append([]string{"iptables", "-w", "-t", "nat", "-I"}, rule...)...)
	return err
}

func inNode(ctx context.Context, node string, command ...string) (string, error) {
	return engine.Output(ctx, "docker", append([]string{"exec", node}, command...)...)
}

// removeNetwork removes kind's network once no node is in it.
func (l Lab) removeNetwork(ctx context.Context) error {
	out, err := engine.Output(ctx, "docker", "network", "ls", "--quiet", "--filter", "name=^"+dockerNetwork+"$")
	if err != nil || strings.TrimSpace(out) == "" {
		return err
	}
	users, err := engine.Output(ctx, "docker", "network", "inspect", "--format", "{{len .Containers}}", dockerNetwork)
	if err != nil || strings.TrimSpace(users) != "0" {
		return err
	}
	_, err = engine.Output(ctx, "docker", "network", "rm", dockerNetwork)
	return err
}
