package config

import (
	"net/netip"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func cidr(address string, bits uint32) *corev3.CidrRange {
	return &corev3.CidrRange{AddressPrefix: address, PrefixLen: wrapperspb.UInt32(bits)}
}

// The longest range counts, in both families; an IPv4-mapped peer is IPv4's.
func TestSources(t *testing.T) {
	s, err := parseSources("s", []*corev3.CidrRange{cidr("10.0.0.0", 8), cidr("10.1.2.3", 32), cidr("10.1.9.9", 16), cidr("fd00::1", 16), cidr("fd00::7", 128)})
	if err != nil || s.Len() != 5 {
		t.Fatal(s, err)
	}
	for addr, want := range map[string]int{
		"10.0.0.1": 8, "10.1.2.3": 32, "10.1.2.4": 16, "::ffff:10.1.2.3": 32, "::ffff:10.2.0.0": 8, "fd00::7": 128, "fd00:0:0:1::": 16, "fd00::7%eth0": 128,
		"11.0.0.1": -1, "::ffff:11.0.0.1": -1, "fd01::": -1, "::10.1.2.3": -1, "0.0.0.0": -1,
	} {
		bits, ok := s.Find(netip.MustParseAddr(addr))
		if !ok {
			bits = -1
		}
		if bits != want {
			t.Errorf("%s: %d bits, want %d", addr, bits, want)
		}
	}
	if _, ok := s.Find(netip.Addr{}); ok {
		t.Error("no address is inside")
	}
	var all *Sources
	if bits, ok := all.Find(netip.MustParseAddr("10.0.0.1")); !ok || bits != 0 || all.Len() != 0 {
		t.Error("nobody is outside of none")
	}
	every, err := parseSources("s", []*corev3.CidrRange{{AddressPrefix: "0.0.0.0"}})
	if bits, ok := every.Find(netip.MustParseAddr("192.0.2.1")); err != nil || !ok || bits != 0 {
		t.Error("0.0.0.0/0", err)
	}
	if _, ok := every.Find(netip.MustParseAddr("2001:db8::1")); ok {
		t.Error("0.0.0.0/0 holds no IPv6")
	}
}

func TestSourcesRefused(t *testing.T) {
	for name, bad := range map[string][]*corev3.CidrRange{
		"no address": {cidr("", 8)}, "host name": {cidr("example.org", 8)}, "33 bits": {cidr("10.0.0.0", 33)}, "129 bits": {cidr("fd00::", 129)},
		"zone": {cidr("fe80::1%eth0", 64)}, "mapped": {cidr("::ffff:10.0.0.0", 104)}, "range as address": {cidr("10.0.0.0/8", 8)},
		"twice": {cidr("10.0.0.1", 8), cidr("10.0.0.2", 8)}, "huge": {cidr("10.0.0.0", 1<<32-1)},
	} {
		if s, err := parseSources("s", bad); err == nil {
			t.Errorf("%s: accepted as %v", name, s)
		}
	}
}

// Whatever is accepted finds its own addresses, as netip does.
func FuzzSources(f *testing.F) {
	f.Add("10.0.0.0", uint32(8), "10.1.2.3")
	f.Add("fd00::", uint32(7), "::ffff:10.0.0.1")
	f.Add("0.0.0.0", uint32(0), "::")
	f.Fuzz(func(t *testing.T, prefix string, bits uint32, peer string) {
		s, err := parseSources("s", []*corev3.CidrRange{cidr(prefix, bits)})
		addr, errAddr := netip.ParseAddr(peer)
		if err != nil || errAddr != nil {
			return
		}
		want := netip.PrefixFrom(netip.MustParseAddr(prefix), int(bits)).Contains(addr.Unmap().WithZone(""))
		if got, ok := s.Find(addr); ok != want || ok && got != int(bits) {
			t.Errorf("%s in %s/%d: %v %d, want %v", peer, prefix, bits, ok, got, want)
		}
	})
}

// Of many thousand ranges finding one costs as much as of two.
func BenchmarkSources(b *testing.B) {
	var many []*corev3.CidrRange
	for i := range 10_000 {
		many = append(many, cidr(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}).String(), 32))
	}
	s, err := parseSources("s", append(many, cidr("192.168.0.0", 16)))
	if err != nil {
		b.Fatal(err)
	}
	for addr, want := range map[string]bool{"10.1.2.1": true, "192.168.7.7": true, "172.16.0.1": false} {
		at := netip.MustParseAddr(addr)
		b.Run(addr, func(b *testing.B) {
			for b.Loop() {
				if _, ok := s.Find(at); ok != want {
					b.Fatal(ok)
				}
			}
		})
	}
}
