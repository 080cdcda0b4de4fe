package fit

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Exec fits what args tell runc to start, and becomes runc. It returns only on
// failure. What cannot be fitted is said and left to runc.
func Exec(args []string) error {
	runc, err := findRunc()
	if err != nil {
		return err
	}
	if err := fitArgs(args); err != nil {
		fmt.Fprintln(os.Stderr, "runc-fit:", err)
	}
	return fmt.Errorf("run %s: %w", runc, syscall.Exec(runc, append([]string{"runc"}, args...), os.Environ()))
}

func fitArgs(args []string) error {
	file, at := Target(args)
	if file == "" {
		return nil
	}
	host, err := ReadHost()
	if err != nil || len(host.Missing) == 0 {
		return err
	}
	return host.File(file, at)
}

// findRunc returns the runc of the distribution: this program may bear the name
// runc itself in somebody's PATH.
func findRunc() (string, error) {
	for _, path := range []string{"/usr/sbin/runc", "/usr/bin/runc"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no runc in /usr/sbin or /usr/bin: install the package runc")
}

// ReadHost asks the kernel what this process may grant.
func ReadHost() (Host, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return Host{}, err
	}
	missing, err := MissingFrom(string(status))
	if err != nil {
		return Host{}, err
	}
	score, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return Host{}, err
	}
	own, err := strconv.ParseInt(strings.TrimSpace(string(score)), 10, 64)
	if err != nil {
		return Host{}, fmt.Errorf("read own oom score: %w", err)
	}
	return Host{Missing: missing, OOMScore: own, HardMax: hardMax}, nil
}

// rlimitNames lists the OCI names by number on amd64 and arm64.
var rlimitNames = strings.Fields("CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME")

func hardMax(name string) (uint64, bool) {
	number := slices.Index(rlimitNames, strings.TrimPrefix(name, "RLIMIT_"))
	var own syscall.Rlimit
	if number < 0 || syscall.Getrlimit(number, &own) != nil {
		return 0, false
	}
	return own.Max, true
}

// Target returns the file that tells runc, called with args, what to start, and
// the key of the process object in it; "" where the command starts nothing.
func Target(args []string) (file, at string) {
	verb, flags := split(args)
	switch verb {
	case "create", "run", "restore":
		bundle := flags["bundle"]
		if bundle == "" {
			bundle = "."
		}
		return filepath.Join(bundle, "config.json"), "process"
	case "exec":
		return flags["process"], ""
	}
	return "", ""
}

// valued are runc's flags that take a value and that we must step over or read.
var valued = map[string]string{
	"--root": "root", "--log": "log", "--log-format": "log-format", "--criu": "criu", "--rootless": "rootless",
	"--bundle": "bundle", "-b": "bundle", "--process": "process", "-p": "process",
}

// split finds the verb of runc's command line, and the flags that we know.
func split(args []string) (verb string, flags map[string]string) {
	flags = map[string]string{}
	for i := 0; i < len(args); i++ {
		name, value, assigned := strings.Cut(args[i], "=")
		switch known, ok := valued[name]; {
		case ok && assigned:
			flags[known] = value
		case ok && i+1 < len(args):
			i++
			flags[known] = args[i]
		case verb == "" && !strings.HasPrefix(name, "-"):
			verb = args[i]
		}
	}
	return verb, flags
}
