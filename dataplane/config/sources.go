package config

import (
	"fmt"
	"net/netip"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Sources is a set of address ranges. A nil one is every address.
type Sources struct {
	ranges map[netip.Prefix]bool
	bits   []int // lengths that occur, the longest first
}

// parseSources reads source_prefix_ranges as Envoy does: bits beyond the length
// are dropped, a missing length is 0.
func parseSources(path string, ranges []*corev3.CidrRange) (*Sources, error) {
	if len(ranges) == 0 {
		return nil, nil
	}
	s := &Sources{ranges: make(map[netip.Prefix]bool, len(ranges))}
	for i, r := range ranges {
		addr, err := netip.ParseAddr(r.GetAddressPrefix())
		if err != nil || addr.Zone() != "" {
			return nil, fmt.Errorf("%s[%d].address_prefix: %q is not an IP address", path, i, r.GetAddressPrefix())
		}
		if addr.Is4In6() { // no peer has such an address: those are IPv4's
			return nil, unsupported(fmt.Sprintf("%s[%d].address_prefix", path, i), addr.String())
		}
		n := r.GetPrefixLen().GetValue()
		if n > uint32(addr.BitLen()) {
			return nil, fmt.Errorf("%s[%d].prefix_len: %d is more than the %d bits of an address", path, i, n, addr.BitLen())
		}
		p := netip.PrefixFrom(addr, int(n)).Masked()
		if s.ranges[p] {
			return nil, fmt.Errorf("%s[%d]: %s stands there twice", path, i, p) // Envoy refuses that
		}
		s.add(p)
	}
	return s, nil
}

func (s *Sources) add(p netip.Prefix) {
	s.ranges[p] = true
	if at, ok := slices.BinarySearchFunc(s.bits, p.Bits(), func(a, b int) int { return b - a }); !ok {
		s.bits = slices.Insert(s.bits, at, p.Bits())
	}
}

// Find returns the length in bits of the longest range that addr is in. An
// IPv4-mapped IPv6 address is the IPv4 one. Every address is in the nil set, by
// 0 bits.
func (s *Sources) Find(addr netip.Addr) (bits int, ok bool) {
	if s == nil {
		return 0, true
	}
	addr = addr.Unmap().WithZone("")
	for _, n := range s.bits {
		if p, err := addr.Prefix(n); err == nil && s.ranges[p] {
			return n, true
		}
	}
	return 0, false
}

// Len returns how many ranges there are.
func (s *Sources) Len() int {
	if s == nil {
		return 0
	}
	return len(s.ranges)
}

// names returns the ranges as text, sorted; "" for every address.
func (s *Sources) names() []string {
	if s == nil {
		return []string{""}
	}
	out := make([]string, 0, len(s.ranges))
	for p := range s.ranges {
		out = append(out, p.String())
	}
	slices.Sort(out)
	return out
}
