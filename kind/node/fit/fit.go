// Package fit stands between a container engine and runc where the host does
// not hold every capability: it takes out of a container's description what
// this process may not grant, and becomes runc. Without it "privileged" ends in
// "unable to apply caps: operation not permitted". On a host that lacks
// nothing it changes nothing.
package fit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A Host is what this process may grant to a container.
type Host struct {
	Missing  map[string]bool                           // capabilities outside the bounding set, as CAP_NAME
	OOMScore int64                                     // own oom_score_adj: without CAP_SYS_RESOURCE none can be lower
	HardMax  func(rlimit string) (max uint64, ok bool) // own hard limit by OCI name; nil knows none
}

// names lists the capabilities by number (linux/capability.h).
var names = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
	NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
	SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
	MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)

// MissingFrom reads the text of /proc/PID/status and returns what its bounding
// set lacks, as CAP_NAME.
func MissingFrom(status string) (map[string]bool, error) {
	for line := range strings.Lines(status) {
		text, ok := strings.CutPrefix(line, "CapBnd:")
		if !ok {
			continue
		}
		mask, err := strconv.ParseUint(strings.TrimSpace(text), 16, 64)
		if err != nil {
			return nil, fmt.Errorf("read bounding set: %w", err)
		}
		missing := map[string]bool{}
		for i, name := range names {
			if mask&(1<<i) == 0 {
				missing["CAP_"+name] = true
			}
		}
		return missing, nil
	}
	return nil, fmt.Errorf("read bounding set: no line CapBnd")
}

// File fits the description in path: the process object under key at, or the
// whole document where at is empty. The file is written in place, since the
// engine may hold it open, and only where something changed.
func (h Host) File(path, at string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	out, err := h.Document(data, at)
	if err != nil || out == nil {
		return err
	}
	return os.WriteFile(path, out, 0o600)
}

// Document is File on bytes; nil means that nothing is to be changed.
func (h Host) Document(data []byte, at string) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber() // numbers that we do not know stay as they are
	var root map[string]any
	if err := decoder.Decode(&root); err != nil {
		return nil, fmt.Errorf("read description of the container: %w", err)
	}
	process := root
	if at != "" {
		process, _ = root[at].(map[string]any)
	}
	if process == nil || !h.process(process) {
		return nil, nil
	}
	return json.Marshal(root)
}

// process changes an OCI process object and reports whether it did.
func (h Host) process(p map[string]any) bool {
	changed := h.capabilities(p)
	if h.Missing["CAP_SYS_RESOURCE"] {
		changed = h.oomScore(p) || changed
		changed = h.rlimits(p) || changed
	}
	return changed
}

func (h Host) capabilities(p map[string]any) (changed bool) {
	sets, _ := p["capabilities"].(map[string]any)
	for name, value := range sets {
		list, _ := value.([]any)
		kept := slices.DeleteFunc(slices.Clone(list), func(c any) bool {
			text, _ := c.(string)
			return h.Missing[text]
		})
		if len(kept) != len(list) {
			sets[name], changed = kept, true
		}
	}
	return changed
}

func (h Host) oomScore(p map[string]any) bool {
	score, ok := p["oomScoreAdj"].(json.Number)
	if !ok {
		return false
	}
	if want, err := score.Int64(); err != nil || want >= h.OOMScore {
		return false
	}
	p["oomScoreAdj"] = h.OOMScore
	return true
}

func (h Host) rlimits(p map[string]any) (changed bool) {
	list, _ := p["rlimits"].([]any)
	for _, item := range list {
		limit, _ := item.(map[string]any)
		name, _ := limit["type"].(string)
		if h.HardMax == nil {
			return false
		}
		own, known := h.HardMax(name)
		for _, key := range []string{"hard", "soft"} {
			number, ok := limit[key].(json.Number)
			if !known || !ok {
				continue
			}
			if want, err := strconv.ParseUint(number.String(), 10, 64); err == nil && want > own {
				limit[key], changed = own, true
			}
		}
	}
	return changed
}
