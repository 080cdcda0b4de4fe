package launcher

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/sandbox/plan"
)

// bridge connects the nodes. It has no pods on it: a Service whose client and
// server sit on one bridge is answered past the NAT.
const bridge = "underlay"

func makeUnderlay() error {
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("make bridge: %w", err)
	}
	if err := addAddress(netlink.LinkByName, netlink.AddrAdd, bridge, plan.Underlay); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return errors.Join(netlink.LinkSetUp(lo), netlink.LinkSetUp(link))
}

func addAddress(find func(string) (netlink.Link, error), add func(netlink.Link, *netlink.Addr) error, device string, prefix netip.Prefix) error {
	link, err := find(device)
	if err != nil {
		return fmt.Errorf("find %s: %w", device, err)
	}
	if err := add(link, &netlink.Addr{IPNet: ipNet(prefix)}); err != nil {
		return fmt.Errorf("give %s the address %s: %w", device, prefix, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// makeNode makes c's network namespace and joins it to the underlay.
func makeNode(p plan.Plan, c plan.Cluster) (*node, error) {
	netns, err := newNetns()
	if err != nil {
		return nil, err
	}
	n := &node{cluster: c, netns: netns, processes: map[plan.Part]*process{}}
	if err := n.publish(); err != nil {
		return nil, err
	}
	if err := n.connect(); err != nil {
		return nil, err
	}
	if err := n.route(p); err != nil {
		return nil, err
	}
	return n, n.nft(nodeRules(p, c))
}

// newNetns makes a network namespace that lives as long as its descriptor.
func newNetns() (fd int, err error) {
	onThread(func() {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("make network namespace: %w", err)
			return
		}
		fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
	return fd, err
}

// onThread runs do on a thread that is thrown away after it, so do may change
// the thread's namespaces.
func onThread(do func()) {
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		defer close(done)
		do()
	}()
	<-done
}

// in runs do with the node's network.
func (n *node) in(do func() error) (err error) {
	onThread(func() {
		if err = unix.Setns(n.netns, unix.CLONE_NEWNET); err == nil {
			err = do()
		}
	})
	return err
}

// publish makes the namespace enterable by name, as /run/isthmus/netns/CLUSTER.
func (n *node) publish() error {
	const dir = "/run/isthmus/netns"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	target := dir + "/" + n.cluster.Name
	if err := os.WriteFile(target, nil, 0o444); err != nil {
		return err
	}
	return unix.Mount(fmt.Sprintf("/proc/self/fd/%d", n.netns), target, "", unix.MS_BIND, "")
}

// connect makes eth0, with its other end on the underlay.
func (n *node) connect() error {
	port := fmt.Sprintf("node%d", n.cluster.Index)
	err := netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: "eth0", PeerNamespace: netlink.NsFd(n.netns),
	})
	if err != nil {
		return fmt.Errorf("make veth: %w", err)
	}
	link, err := netlink.LinkByName(port)
	if err != nil {
		return err
	}
	master, err := netlink.LinkByName(bridge)
	if err != nil {
		return err
	}
	return errors.Join(netlink.LinkSetMaster(link, master), netlink.LinkSetUp(link))
}

// route gives the node its addresses and routes.
func (n *node) route(p plan.Plan) error {
	return n.in(func() error {
		for _, name := range []string{"lo", "eth0"} {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(link); err != nil {
				return fmt.Errorf("set %s up: %w", name, err)
			}
		}
		c := n.cluster
		own := netip.PrefixFrom(c.NodeAddress, plan.Underlay.Bits())
		gateway := netip.PrefixFrom(c.PodGateway(), 32)
		if err := errors.Join(
			addAddress(netlink.LinkByName, netlink.AddrAdd, "eth0", own),
			addAddress(netlink.LinkByName, netlink.AddrAdd, "lo", gateway), // the dummy device is missing on some kernels
			sysctls(),
		); err != nil {
			return err
		}
		// Without this the API server's call to a webhook's ClusterIP has no
		// route: that is looked up before the NAT rule.
		if err := addRoute(c.Services, netip.Addr{}, c.NodeAddress); err != nil {
			return err
		}
		for _, other := range p.Neighbours(c) {
			if err := addRoute(other.Pods, other.NodeAddress, netip.Addr{}); err != nil {
				return err
			}
		}
		return nil
	})
}

func addRoute(to netip.Prefix, via, source netip.Addr) error {
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(to), Gw: via.AsSlice(), Src: source.AsSlice()}
	if !via.IsValid() {
		route.Scope = netlink.SCOPE_LINK
	}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("route %s: %w", to, err)
	}
	return nil
}

func sysctls() error {
	for name, value := range map[string]string{
		"net/ipv4/ip_forward":                  "1",
		"net/ipv4/conf/all/send_redirects":     "0", // every packet leaves by the way it came
		"net/ipv4/conf/default/send_redirects": "0",
		"net/ipv4/conf/eth0/send_redirects":    "0",
		"net/ipv4/conf/all/rp_filter":          "0",
	} {
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// nft runs the nft program on script in the node's namespace.
func (n *node) nft(script string) error {
	return n.in(func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = bytes.NewReader([]byte(script))
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("set nftables rules: %w: %s", err, bytes.TrimSpace(text))
		}
		return nil
	})
}
