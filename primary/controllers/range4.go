package controllers

import (
	"encoding/binary"
	"net/netip"
)

// range4 is a range of IPv4 addresses, known by their offsets from its first.
type range4 struct{ prefix netip.Prefix }

// maxAddresses bounds how many addresses of a range are used.
const maxAddresses = 1 << 20

// last is the greatest offset that is given, 0 where there is none. Neither the
// first nor the last address of the range is, which look like a network's own.
func (r range4) last() int {
	if !r.prefix.IsValid() || !r.prefix.Addr().Is4() || r.prefix.Bits() > 30 {
		return 0
	}
	return min(1<<(32-r.prefix.Bits()), maxAddresses) - 2
}

// at returns the address at an offset.
func (r range4) at(offset int) netip.Addr {
	b := r.prefix.Masked().Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(offset))
	return netip.AddrFrom4(b)
}

// offset is the inverse of at; false where a is no address that is given.
func (r range4) offset(a netip.Addr) (int, bool) {
	if r.last() == 0 || !r.prefix.Contains(a) {
		return 0, false
	}
	first, this := r.prefix.Masked().Addr().As4(), a.As4()
	n := int(binary.BigEndian.Uint32(this[:]) - binary.BigEndian.Uint32(first[:]))
	return n, n >= 1 && n <= r.last()
}

// words writes offsets as addresses.
func (r range4) words() words {
	return words{
		func(offset int) string { return r.at(offset).String() },
		func(text string) (int, bool) {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return 0, false
			}
			return r.offset(a)
		},
		r.last(),
	}
}
