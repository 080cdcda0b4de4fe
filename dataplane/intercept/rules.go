package intercept

import (
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"

	"github.com/isthmus-mesh/isthmus/api"
)

// A rule is one rule of a chain; the first whose matches all hold decides.
type rule struct {
	chain string
	exprs []expr.Any
}

var (
	loopback4 = netip.MustParsePrefix("127.0.0.0/8")
	loopback6 = netip.MustParsePrefix("::1/128")
)

func rules(opts Options) []rule {
	return slices.Concat(output(opts), prerouting(opts), guard())
}

// output decides about connections that the pod opens.
func output(opts Options) []rule {
	r := []rule{
		{chainOutput, join(notTCP(), done())},
		{chainOutput, join(mark(api.MarkInbound), done())},
	}
	for _, p := range opts.ExcludeInboundPorts {
		r = append(r, rule{chainOutput, join(mark(api.MarkOutbound), port(p), done())})
	}
	r = append(r,
		// A pod that calls itself by its Service: the sidecar's outbound half
		// dials the pod's own address, and its inbound half has to see it.
		rule{chainOutput, join(mark(api.MarkOutbound), toLoopbackDevice(), notTo(loopback4), redirect(api.PortInbound))},
		rule{chainOutput, join(mark(api.MarkOutbound), toLoopbackDevice(), notTo(loopback6), redirect(api.PortInbound))},
		rule{chainOutput, join(mark(api.MarkOutbound), done())},
		rule{chainOutput, join(uid(api.ProxyUID), done())},
		rule{chainOutput, join(toLoopbackDevice(), done())},
	)
	for _, p := range opts.ExcludeOutboundPorts {
		r = append(r, rule{chainOutput, join(port(p), done())})
	}
	for _, c := range opts.ExcludeOutboundCIDRs {
		r = append(r, rule{chainOutput, join(to(c), done())})
	}
	return append(r, rule{chainOutput, redirect(api.PortOutbound)})
}

// prerouting decides about connections that come from outside.
func prerouting(opts Options) []rule {
	r := []rule{
		{chainPrerouting, join(notTCP(), done())},
		{chainPrerouting, join(fromLoopbackDevice(), done())},
	}
	own := []uint16{api.PortHealth, api.PortProxyMetrics, api.PortOutbound, api.PortInbound}
	for _, p := range slices.Concat(own, opts.ExcludeInboundPorts) {
		r = append(r, rule{chainPrerouting, join(port(p), done())})
	}
	return append(r, rule{chainPrerouting, redirect(api.PortInbound)})
}

// guard resets connections that were made to the sidecar's own ports rather
// than redirected there: their original destination is the sidecar itself, and
// it would call itself without end.
func guard() []rule {
	var r []rule
	for _, p := range []uint16{api.PortOutbound, api.PortInbound} {
		r = append(r, rule{chainGuard, join(tcp(), port(p), notRedirected(), reset())})
	}
	return r
}
