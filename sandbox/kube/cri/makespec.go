package cri

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/"

// spec says how to start c.
func (s *Server) spec(c *container) (*containerSpec, error) {
	security := c.config.GetLinux().GetSecurityContext()
	spec := &containerSpec{
		Root: filepath.Join(c.sandbox.dir, "root-"+c.id),
		Args: c.args(), Env: c.env(), Dir: c.config.GetWorkingDir(),
		ReadOnly: security.GetReadonlyRootfs(), NoNewPrivs: security.GetNoNewPrivs(), Tools: c.image.tools,
	}
	var err error
	if spec.Capabilities, err = capabilities(security); err != nil {
		return nil, err
	}
	for _, name := range c.image.commands {
		spec.Mounts = append(spec.Mounts, mountSpec{Source: c.image.program, Target: "/" + name, ReadOnly: true})
	}
	if _, err := os.Stat(c.sandbox.resolvConf()); err == nil {
		spec.Mounts = append(spec.Mounts, mountSpec{Source: c.sandbox.resolvConf(), Target: "/etc/resolv.conf"})
	}
	for _, m := range c.config.GetMounts() {
		if m.GetImage().GetImage() != "" {
			return nil, fmt.Errorf("the sandbox has no image volumes: %s", m.GetContainerPath())
		}
		spec.Mounts = append(spec.Mounts, mountSpec{Source: m.GetHostPath(), Target: m.GetContainerPath(), ReadOnly: m.GetReadonly()})
	}
	return spec, os.MkdirAll(spec.Root, 0o755)
}

func (c *container) args() []string {
	command := c.config.GetCommand()
	if len(command) == 0 {
		command = c.image.entrypoint
		if len(c.config.GetArgs()) > 0 && c.image.entrypoint[0] == "sleep" {
			command = nil // like an image that has a default command, but no entrypoint
		}
	}
	return append(append([]string{}, command...), c.config.GetArgs()...)
}

func (c *container) env() []string {
	name := c.sandbox.config.GetHostname()
	path := defaultPath
	if c.image.tools { // its own commands before the host's
		path = strings.Replace(path, "PATH=", "PATH=/:", 1)
	}
	env := []string{path, "HOME=/root", "HOSTNAME=" + name}
	for _, e := range c.config.GetEnvs() {
		env = append(env, e.GetKey()+"="+string(e.GetValue()))
	}
	return env
}

// capabilityNames by number.
var capabilityNames = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}

// defaultCapabilities are those that other runtimes give.
var defaultCapabilities = []uint{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FSETID, unix.CAP_FOWNER, unix.CAP_MKNOD, unix.CAP_NET_RAW,
	unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_SETFCAP, unix.CAP_SETPCAP, unix.CAP_NET_BIND_SERVICE,
	unix.CAP_SYS_CHROOT, unix.CAP_KILL, unix.CAP_AUDIT_WRITE,
}

// capabilities are what the container may keep, by number.
func capabilities(security *runtimeapi.LinuxContainerSecurityContext) ([]uint, error) {
	set := map[uint]bool{}
	for _, c := range defaultCapabilities {
		set[c] = true
	}
	all := func(value bool) {
		for c := range capabilityNames {
			set[uint(c)] = value
		}
	}
	if security.GetPrivileged() {
		all(true)
	}
	change := func(names []string, value bool) error {
		for _, name := range names {
			name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
			if name == "ALL" {
				all(value)
				continue
			}
			number, err := capabilityNumber(name)
			if err != nil {
				return err
			}
			set[number] = value
		}
		return nil
	}
	// "drop ALL, add X" keeps X; "add ALL, drop X" drops X.
	add, drop := security.GetCapabilities().GetAddCapabilities(), security.GetCapabilities().GetDropCapabilities()
	order := []struct {
		names []string
		value bool
	}{{drop, false}, {add, true}}
	for _, name := range add {
		if strings.EqualFold(name, "ALL") {
			order[0], order[1] = order[1], order[0]
		}
	}
	for _, step := range order {
		if err := change(step.names, step.value); err != nil {
			return nil, err
		}
	}
	var list []uint
	for c := range capabilityNames {
		if set[uint(c)] {
			list = append(list, uint(c))
		}
	}
	return list, nil
}

func capabilityNumber(name string) (uint, error) {
	for number, known := range capabilityNames {
		if known == name {
			return uint(number), nil
		}
	}
	return 0, fmt.Errorf("no capability %q", name)
}
