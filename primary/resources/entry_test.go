package resources_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// Without a range nobody may call, and Envoy takes no listener without chains nor
// one range in two of them.
func TestEntryChains(t *testing.T) {
	inside := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.9.0.5/32")}
	shut := []netip.Addr{netip.MustParseAddr("10.9.0.5")}
	for name, tt := range map[string]struct {
		inside []netip.Prefix
		shut   []netip.Addr
		want   []string // per chain: its ranges
	}{
		"nobody":    {nil, nil, []string{"127.0.0.0/8 ::1/128"}},
		"all shut":  {nil, shut, []string{"10.9.0.5/32"}},
		"open":      {inside, nil, []string{"10.1.0.0/16", "10.9.0.5/32"}},
		"both":      {inside, shut, []string{"10.9.0.5/32", "10.1.0.0/16"}},
		"only shut": {inside[1:], shut, []string{"10.9.0.5/32"}},
	} {
		r, err := resources.NewEntry(tt.inside, tt.shut)
		if err != nil {
			t.Fatal(err)
		}
		var l listenerv3.Listener
		if err := r.Body.UnmarshalTo(&l); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range l.FilterChains {
			var ranges []string
			for _, p := range c.FilterChainMatch.SourcePrefixRanges {
				ranges = append(ranges, fmt.Sprintf("%s/%d", p.AddressPrefix, p.PrefixLen.Value))
			}
			got = append(got, strings.Join(ranges, " "))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
