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
	r = append(r, ownCalls(opts)...)
	r = append(r,
		rule{chainOutput, join(mark(api.MarkOutbound), done())},
		rule{chainOutput, join(uid(api.ProxyUID), done())},
		rule{chainOutput, join(toLoopbackDevice(), done())},
	)
	for _, matches := range excluded(opts) {
		r = append(r, rule{chainOutput, join(matches, done())})
	}
	if !opts.OnlyOutboundCIDRs.Limited {
		return append(r, rule{chainOutput, redirect(api.PortOutbound)})
	}
	for _, p := range opts.AlsoOutboundPorts {
		r = append(r, rule{chainOutput, join(port(p), redirect(api.PortOutbound))})
	}
	for _, c := range opts.OnlyOutboundCIDRs.List {
		r = append(r, rule{chainOutput, join(to(c), redirect(api.PortOutbound))})
	}
	return r
}

// ownCalls lead a pod that calls itself by its Service: the sidecar's outbound
// half dials the pod's own address, and its inbound half has to see it, unless
// that port is left alone.
func ownCalls(opts Options) []rule {
	var r []rule
	for _, p := range opts.ExcludeInboundPorts {
		r = append(r, rule{chainOutput, join(mark(api.MarkOutbound), port(p), done())})
	}
	for _, loopback := range []netip.Prefix{loopback4, loopback6} {
		own := join(mark(api.MarkOutbound), toLoopbackDevice(), notTo(loopback))
		for _, matches := range inbound(opts) {
			r = append(r, rule{chainOutput, join(own, matches, redirect(api.PortInbound))})
		}
	}
	return r
}

// excluded returns the matches, each one enough, of what leaves the pod directly.
func excluded(opts Options) [][]expr.Any {
	var all [][]expr.Any
	for _, p := range opts.ExcludeOutboundPorts {
		all = append(all, port(p))
	}
	for _, c := range opts.ExcludeOutboundCIDRs {
		all = append(all, to(c))
	}
	for _, id := range opts.ExcludeUIDs {
		all = append(all, uid(id))
	}
	for _, id := range opts.ExcludeGIDs {
		all = append(all, gid(id))
	}
	for _, device := range opts.ExcludeInterfaces {
		all = append(all, toDevice(device))
	}
	return all
}

// inbound returns the matches, each one enough, of the ports that are redirected
// where they are not excluded; one that matches everything where all are.
func inbound(opts Options) [][]expr.Any {
	if !opts.OnlyInboundPorts.Limited {
		return [][]expr.Any{nil}
	}
	var all [][]expr.Any
	for _, p := range opts.OnlyInboundPorts.List {
		all = append(all, port(p))
	}
	return all
}

// prerouting decides about connections that come from outside.
func prerouting(opts Options) []rule {
	r := []rule{
		{chainPrerouting, join(notTCP(), done())},
		{chainPrerouting, join(fromLoopbackDevice(), done())},
	}
	for _, device := range opts.ExcludeInterfaces {
		r = append(r, rule{chainPrerouting, join(fromDevice(device), done())})
	}
	own := []uint16{api.PortHealth, api.PortProxyMetrics, api.PortOutbound, api.PortInbound}
	for _, p := range slices.Concat(own, opts.ExcludeInboundPorts) {
		r = append(r, rule{chainPrerouting, join(port(p), done())})
	}
	for _, matches := range inbound(opts) {
		r = append(r, rule{chainPrerouting, join(matches, redirect(api.PortInbound))})
	}
	return r
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
