package intercept

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/api"
)

// Words that stand for a whole list in what is included. No text is All, too.
const (
	All  = "*"
	None = "none"
)

// ParseOnly parses what is included, All, None or a list that parse reads.
func ParseOnly[T any](text string, parse func(string) ([]T, error)) (Only[T], error) {
	switch strings.TrimSpace(text) {
	case "", All:
		return Only[T]{}, nil
	case None:
		return Only[T]{Limited: true}, nil
	}
	list, err := parse(text)
	return Only[T]{Limited: true, List: list}, err
}

// ParsePorts parses a comma-separated list of ports, 1 to 65535. Empty text is
// an empty list.
func ParsePorts(text string) ([]uint16, error) {
	return parseList(text, "ports", func(part string) (uint16, error) {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil || n == 0 {
			return 0, fmt.Errorf("%q is no port (1 to 65535)", part)
		}
		return uint16(n), nil
	})
}

// ParseIDs parses a comma-separated list of numeric ids of users or groups. The
// last number is none: the kernel keeps it for "no id".
func ParseIDs(text string) ([]uint32, error) {
	return parseList(text, "ids", func(part string) (uint32, error) {
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil || n > api.MaxID {
			return 0, fmt.Errorf("%q is no id (0 to %d)", part, uint32(api.MaxID))
		}
		return uint32(n), nil
	})
}

// ParseInterfaces parses a comma-separated list of names of network devices.
func ParseInterfaces(text string) ([]string, error) {
	return parseList(text, "interfaces", func(part string) (string, error) {
		if !api.ValidInterface(part) {
			return "", fmt.Errorf("%q is no name of a network interface", part)
		}
		return part, nil
	})
}

// ParseCIDRs parses a comma-separated list of address ranges such as
// 10.0.0.0/8; a bare address is a range of one.
func ParseCIDRs(text string) ([]netip.Prefix, error) {
	return parseList(text, "address ranges", func(part string) (netip.Prefix, error) {
		p, err := parsePrefix(part)
		if err != nil {
			return p, fmt.Errorf("%q is no address range", part)
		}
		return p, nil
	})
}

// parseList parses each part of a comma-separated list of what.
func parseList[T any](text, what string, parse func(string) (T, error)) ([]T, error) {
	var list []T
	for part := range parts(text) {
		item, err := parse(part)
		if err != nil {
			return nil, err
		}
		list = append(list, item)
	}
	if len(list) > api.MaxExclusions {
		return nil, fmt.Errorf("%d %s, at most %d can be named", len(list), what, api.MaxExclusions)
	}
	return list, nil
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
