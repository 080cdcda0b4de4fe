package server

import (
	"fmt"
	"net/netip"
	"slices"
)

// Defaults of the ranges, as the chart has them.
const (
	DefaultEntryPorts     = "20000-29999"
	DefaultSyntheticRange = "240.241.0.0/16"
)

// ParseSyntheticRange reads the range of addresses that stand for pods of other
// networks: IPv4, from /8 to /30, and such as hosts take for an address of
// another host.
func ParseSyntheticRange(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not an address range such as %s", text, DefaultSyntheticRange)
	}
	switch {
	case !p.Addr().Is4():
		return netip.Prefix{}, fmt.Errorf("%q is not IPv4", text)
	case p.Masked() != p:
		return netip.Prefix{}, fmt.Errorf("%q does not begin at its first address: is it %s?", text, p.Masked())
	case p.Bits() < 8 || p.Bits() > 30:
		return netip.Prefix{}, fmt.Errorf("%q is of the wrong size: from /8 to /30", text)
	}
	for _, other := range unusable() {
		if p.Overlaps(other) {
			return netip.Prefix{}, fmt.Errorf("%q overlaps %s, which has a meaning of its own", text, other)
		}
	}
	return p, nil
}

// unusable are ranges whose addresses are not those of other hosts. (RFC 6890)
func unusable() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"),
		netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32"),
	}
}

// ParseEntryFrom reads the ranges from which entry gateways may be called,
// sorted and each once; none gives nil, which leaves them to be derived from
// pods and nodes.
func ParseEntryFrom(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%q is not an address range such as 10.0.0.0/8", text)
		case p.Bits() == 0:
			return nil, fmt.Errorf("%q is every address there is: an entry gateway is no open relay", text)
		case p.Masked() != p:
			return nil, fmt.Errorf("%q does not begin at its first address: is it %s?", text, p.Masked())
		}
		out = append(out, p)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out), nil
}
