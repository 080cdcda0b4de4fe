package resources

import (
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"
)

// How many filter chains a listener may have before its source ranges stand
// together in one again. A proxy holds each chain's filters, and an inbound
// listener is there for every kind of pod.
const (
	maxEntryChains   = 1000
	maxInboundChains = 250
)

// apart gives every source range of chains a chain of its own, alike in all
// else: Envoy drains the connections of a chain of which anything changed, so a
// node more must not change that of the others. Where this would make more than
// most, chains are returned as they are.
func apart(chains []*listenerv3.FilterChain, most int) []*listenerv3.FilterChain {
	var out []*listenerv3.FilterChain
	for _, c := range chains {
		ranges := c.GetFilterChainMatch().GetSourcePrefixRanges()
		if len(out)+max(len(ranges), 1) > most {
			return chains
		}
		if len(ranges) == 0 {
			out = append(out, c)
		}
		for _, r := range ranges {
			match := proto.CloneOf(c.FilterChainMatch)
			match.SourcePrefixRanges = []*corev3.CidrRange{r}
			out = append(out, &listenerv3.FilterChain{FilterChainMatch: match, Filters: c.Filters, TransportSocket: c.TransportSocket})
		}
	}
	return out
}

// from matches connections of the ranges, of which there must be one: none
// would match all.
func from(ranges []netip.Prefix) *listenerv3.FilterChainMatch {
	return &listenerv3.FilterChainMatch{SourcePrefixRanges: cidrs(ranges)}
}

func cidrs(ranges []netip.Prefix) []*corev3.CidrRange {
	var out []*corev3.CidrRange
	for _, p := range ranges {
		out = append(out, &corev3.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: u32(uint32(p.Bits()))})
	}
	return out
}

// loopback is from where nobody calls a pod.
func loopback() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}
