package api

import "strings"

// Bounds of what a pod's annotations exclude from its sidecar or include.
const (
	MaxExclusions = 256       // items of one list
	MaxID         = 1<<32 - 2 // of a user or group; the next one means "no id"
	maxInterface  = 15        // bytes of a network device's name (IFNAMSIZ without its end)
)

// Bounds of a pod's probes that its proxy runs: how many, and their JSON.
const (
	MaxProbes      = 512
	MaxProbesBytes = 256 << 10
)

// ValidInterface reports whether name can be that of a network device.
// (dev_valid_name of Linux)
func ValidInterface(name string) bool {
	return name != "" && len(name) <= maxInterface && name != "." && name != ".." && !strings.ContainsFunc(name, func(r rune) bool {
		return r == '/' || r == ':' || r <= ' ' || r > '~'
	})
}
