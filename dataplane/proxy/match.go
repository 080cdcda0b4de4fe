package proxy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
	"github.com/isthmus-mesh/isthmus/dataplane/proxy/inspect"
)

// matchChain finds the filter chain of a connection from src as Envoy does:
// port, server name, transport protocol, application protocol and source in
// this order, the most specific at each step, and no way back from a step. nil:
// close it.
func matchChain(l *config.Listener, port uint16, src netip.Addr, seen inspect.Result) *config.Chain {
	chains := narrow(l.Chains, func(c *config.Chain) int {
		return exact(c.Match.Port == 0, c.Match.Port == port)
	})
	chains = narrow(chains, func(c *config.Chain) int { return nameRank(c.Match.ServerNames, seen.ServerName) })
	transport := "raw_buffer"
	if seen.TLS {
		transport = "tls"
	}
	chains = narrow(chains, func(c *config.Chain) int {
		return exact(c.Match.Transport == "", c.Match.Transport == transport)
	})
	chains = narrow(chains, func(c *config.Chain) int {
		return exact(len(c.Match.Applications) == 0, slices.ContainsFunc(c.Match.Applications, func(a string) bool {
			return slices.Contains(seen.Applications, a)
		}))
	})
	chains = narrow(chains, func(c *config.Chain) int { return sourceRank(c.Match.Sources, src) })
	if len(chains) == 0 {
		return l.Default
	}
	return chains[0]
}

// narrow keeps the chains of the highest rank above zero.
func narrow(chains []*config.Chain, rank func(*config.Chain) int) []*config.Chain {
	best := 0
	var out []*config.Chain
	for _, c := range chains {
		switch r := rank(c); {
		case r == 0 || r < best:
		case r > best:
			best, out = r, []*config.Chain{c}
		default:
			out = append(out, c)
		}
	}
	return out
}

func exact(unset, equal bool) int {
	switch {
	case unset:
		return 1
	case equal:
		return 2
	default:
		return 0
	}
}

// sourceRank ranks a longer range over a shorter one over none.
func sourceRank(sources *config.Sources, src netip.Addr) int {
	bits, ok := sources.Find(src)
	switch {
	case !ok:
		return 0
	case sources == nil:
		return 1
	default:
		return 2 + bits
	}
}

// nameRank ranks an exact name over a longer suffix over a shorter one over none.
func nameRank(names []string, name string) int {
	if len(names) == 0 {
		return 1
	}
	best := 0
	for _, n := range names {
		if suffix, wild := strings.CutPrefix(n, "*"); wild {
			if len(name) > len(suffix) && strings.HasSuffix(name, suffix) {
				best = max(best, 1+len(suffix))
			}
		} else if name != "" && n == name {
			best = 1 << 16
		}
	}
	return best
}
