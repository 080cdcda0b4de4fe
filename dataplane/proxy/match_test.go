package proxy

import (
	"fmt"
	"net/netip"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
	"github.com/isthmus-mesh/isthmus/dataplane/proxy/inspect"
)

// chainsOf is a listener whose chains have these criteria and are named by
// their number.
func chainsOf(t *testing.T, matches ...*listenerv3.FilterChainMatch) *config.Listener {
	t.Helper()
	tcp, err := anypb.New(&tcpproxyv3.TcpProxy{StatPrefix: "p", ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: "c"}})
	if err != nil {
		t.Fatal(err)
	}
	m := &listenerv3.Listener{Name: "l", Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: "0.0.0.0", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 1},
	}}}}
	for i, match := range matches {
		m.FilterChains = append(m.FilterChains, &listenerv3.FilterChain{
			Name: fmt.Sprint(i), FilterChainMatch: match, Filters: []*listenerv3.Filter{{Name: "tcp", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: tcp}}},
		})
	}
	c, err := config.Build(nil, config.State{config.TypeListener: map[string]proto.Message{"l": m}})
	if err != nil {
		t.Fatal(err)
	}
	return c.Listeners["l"]
}

func from(t *testing.T, ranges ...string) *listenerv3.FilterChainMatch {
	t.Helper()
	m := &listenerv3.FilterChainMatch{}
	for _, r := range ranges {
		p := netip.MustParsePrefix(r)
		m.SourcePrefixRanges = append(m.SourcePrefixRanges, &corev3.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(p.Bits()))})
	}
	return m
}

// The source is the last step: the longest range wins, a chain without any
// takes the rest, and there is no way back from what matched before.
func TestMatchSource(t *testing.T) {
	type peers map[string]string
	check := func(l *config.Listener, port uint16, seen inspect.Result, want peers) {
		t.Helper()
		for addr, chain := range want {
			got := "none"
			if c := matchChain(l, port, netip.MustParseAddr(addr), seen); c != nil {
				got = c.Name
			}
			if got != chain {
				t.Errorf("port %d from %s, %+v: chain %s, want %s", port, addr, seen, got, chain)
			}
		}
	}
	plain, mesh := inspect.Result{}, inspect.Result{TLS: true, Applications: []string{"isthmus"}}

	l := chainsOf(t, from(t, "10.0.0.0/8", "fd00::/8"), from(t, "10.1.0.0/16", "10.1.2.3/32"), from(t, "10.1.2.0/24"))
	check(l, 80, plain, peers{
		"10.0.0.1": "0", "10.1.0.1": "1", "10.1.2.1": "2", "10.1.2.3": "1", "::ffff:10.1.2.1": "2", "fd00::1": "0", "11.0.0.1": "none", "fe80::1": "none",
	})
	check(chainsOf(t, from(t, "10.0.0.0/8"), from(t)), 80, plain, peers{"10.0.0.1": "0", "11.0.0.1": "1", "fd00::1": "1"})
	check(chainsOf(t, from(t, "0.0.0.0/0")), 80, plain, peers{"192.0.2.1": "0", "::ffff:192.0.2.1": "0", "fd00::1": "none"})

	// A port that is named leads to its own chains, and so does mTLS.
	port := func(m *listenerv3.FilterChainMatch) *listenerv3.FilterChainMatch {
		m.DestinationPort = wrapperspb.UInt32(80)
		return m
	}
	tls := func(m *listenerv3.FilterChainMatch) *listenerv3.FilterChainMatch {
		m.TransportProtocol, m.ApplicationProtocols = "tls", []string{"isthmus"}
		return m
	}
	l = chainsOf(t, port(from(t, "10.0.0.0/8")), port(tls(from(t))), from(t), tls(from(t, "10.9.0.0/16")))
	check(l, 80, plain, peers{"10.0.0.1": "0", "11.0.0.1": "none"})
	check(l, 80, mesh, peers{"10.0.0.1": "1", "11.0.0.1": "1"})
	check(l, 81, plain, peers{"10.0.0.1": "2", "11.0.0.1": "2"})
	check(l, 81, mesh, peers{"10.9.0.1": "3", "10.0.0.1": "none"})
}
