// Package boot is the first process of a node container: it fits the container
// to systemd, containerd and kubelet, then becomes systemd. What it says goes
// to the container's log.
package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const systemd = "/lib/systemd/systemd"

// Exec prepares the container and becomes systemd; it returns only on failure.
func Exec() error {
	// kubelet hands mounts on to pods, so propagation must be shared.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts: %w", err)
	}
	if err := errors.Join(showSettings(), newMachine(), nameServer(), cgroups()); err != nil {
		return err
	}
	return fmt.Errorf("run systemd: %w", syscall.Exec(systemd, []string{systemd, "--log-target=console", "--show-status=1"}, os.Environ()))
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "node: "+format+"\n", args...) }

// wanted are machine-wide settings that kubelet insists on and would write.
var wanted = map[string]string{
	"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
	"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
}

// showSettings lays files with the wanted values over those entries, in this
// container's mounts only: the machine keeps its own.
func showSettings() error {
	const dir = "/run/node-settings"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for key, want := range wanted {
		real := filepath.Join("/proc/sys", key)
		have, err := os.ReadFile(real)
		if errors.Is(err, fs.ErrNotExist) || strings.TrimSpace(string(have)) == want {
			continue
		}
		shown := filepath.Join(dir, strings.ReplaceAll(key, "/", "."))
		if err := os.WriteFile(shown, []byte(want+"\n"), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(shown, real, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("show %s: %w", key, err)
		}
		say("shows %s=%s; the machine keeps its own", key, want)
	}
	return nil
}

// newMachine gives the container an identity of its own.
func newMachine() error {
	if err := os.Remove("/etc/machine-id"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if out, err := exec.Command("systemd-machine-id-setup").CombinedOutput(); err != nil {
		return fmt.Errorf("make a machine id: %w: %s", err, out)
	}
	return nil
}

// nameServer lets the node and its pods ask at the node's own address, where
// the relay serves. Where the resolver is not on loopback nothing is needed.
func nameServer() error {
	const file = "/etc/resolv.conf"
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	own, err := address("eth0")
	if err != nil {
		return err
	}
	text, upstream := Redirect(string(data), own)
	if !upstream.IsValid() {
		return nil
	}
	settings := fmt.Sprintf("ON=%s\nTO=%s\n", netip.AddrPortFrom(own, 53), netip.AddrPortFrom(upstream, 53))
	if err := os.WriteFile("/etc/default/node-dns", []byte(settings), 0o644); err != nil {
		return err
	}
	say("address %s, resolver %s", own, upstream)
	return os.WriteFile(file, []byte(text), 0o644) // in place: it is a bind mount
}

// Redirect returns the resolv.conf text with own in place of a name server on
// loopback, and that server; an invalid one where there is none.
func Redirect(text string, own netip.Addr) (string, netip.Addr) {
	var out strings.Builder
	var upstream netip.Addr
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[0] == "nameserver" {
			server, err := netip.ParseAddr(fields[1])
			if err == nil && server.IsLoopback() && !upstream.IsValid() {
				upstream = server
				line = "nameserver " + own.String() + "\n"
			}
		}
		out.WriteString(line)
	}
	return out.String(), upstream
}

// address returns the first IPv4 address of an interface.
func address(name string) (netip.Addr, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("interface %s: %w", name, err)
	}
	addrs, err := link.Addrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("addresses of %s: %w", name, err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			return p.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("interface %s has no IPv4 address", name)
}
