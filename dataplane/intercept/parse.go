package intercept

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// MaxExclusions bounds each list of exclusions.
const MaxExclusions = 256

// ParsePorts parses a comma-separated list of ports, 1 to 65535. Empty text is
// an empty list.
func ParsePorts(text string) ([]uint16, error) {
	var ports []uint16
	for part := range parts(text) {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%q is no port (1 to 65535)", part)
		}
		ports = append(ports, uint16(n))
	}
	if len(ports) > MaxExclusions {
		return nil, fmt.Errorf("%d ports, at most %d can be excluded", len(ports), MaxExclusions)
	}
	return ports, nil
}

// ParseCIDRs parses a comma-separated list of address ranges such as
// 10.0.0.0/8; a bare address is a range of one.
func ParseCIDRs(text string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for part := range parts(text) {
		p, err := parsePrefix(part)
		if err != nil {
			return nil, fmt.Errorf("%q is no address range", part)
		}
		out = append(out, p)
	}
	if len(out) > MaxExclusions {
		return nil, fmt.Errorf("%d address ranges, at most %d can be excluded", len(out), MaxExclusions)
	}
	return out, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return a.WithZone("").Unmap().Prefix(a.Unmap().BitLen())
}

// parts yields the non-empty parts of a comma-separated list.
func parts(text string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" && !yield(part) {
				return
			}
		}
	}
}
