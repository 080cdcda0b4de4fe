package cri

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
)

// allocate returns a pod address that nobody has. Addresses are not reused
// until all others have been: a stale cache then hits nobody.
func (s *Server) allocate() (netip.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := map[netip.Addr]bool{s.opts.Gateway: true}
	for _, sb := range s.sandboxes {
		used[sb.ip] = true
	}
	ip := s.lastIP
	for range 1 << (32 - s.opts.Pods.Bits()) {
		ip = ip.Next()
		if !s.opts.Pods.Contains(ip.Next()) { // the last one is the broadcast address
			ip = s.opts.Gateway
		}
		if !used[ip] {
			s.lastIP = ip
			return ip, nil
		}
	}
	return netip.Addr{}, errors.New("all pod addresses are in use")
}

// connect gives the pod its device: a point-to-point link to the node, with no
// bridge, so that all traffic passes the node's rules.
func (s *Server) connect(sb *sandbox) error {
	err := netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: sb.device}, PeerName: "eth0", PeerNamespace: netlink.NsFd(sb.ns.net),
	})
	if err != nil {
		return fmt.Errorf("make the pod's device: %w", err)
	}
	if err := sb.ns.in(func() error { return configurePod(sb, s.opts.Gateway) }); err != nil {
		return err
	}
	link, err := netlink.LinkByName(sb.device)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: host(sb.ip), Scope: netlink.SCOPE_LINK}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("route to the pod: %w", err)
	}
	return nil
}

// configurePod runs in the pod's namespace.
func configurePod(sb *sandbox, gateway netip.Addr) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	eth0, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.LinkSetUp(lo), netlink.LinkSetUp(eth0)); err != nil {
		return err
	}
	if err := netlink.AddrAdd(eth0, &netlink.Addr{IPNet: host(sb.ip)}); err != nil {
		return fmt.Errorf("give the pod its address: %w", err)
	}
	index := eth0.Attrs().Index
	for _, route := range []*netlink.Route{
		{LinkIndex: index, Dst: host(gateway), Scope: netlink.SCOPE_LINK},
		{LinkIndex: index, Gw: gateway.AsSlice()},
	} {
		if err := netlink.RouteAdd(route); err != nil {
			return fmt.Errorf("route from the pod: %w", err)
		}
	}
	// Like other runtimes: any pod may listen on low ports, whoever it runs as.
	sysctls := map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}
	for name, value := range sb.config.GetLinux().GetSysctls() {
		sysctls[name] = value
	}
	for name, value := range sysctls {
		path := filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

func (s *Server) disconnect(sb *sandbox) {
	if sb.ns == nil {
		return
	}
	if link, err := netlink.LinkByName(sb.device); err == nil {
		_ = netlink.LinkDel(link)
	}
}

func host(ip netip.Addr) *net.IPNet {
	return &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())}
}
