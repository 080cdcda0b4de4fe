package intercept

import "github.com/isthmus-mesh/isthmus/api"

// entryRules lead r to the entry gateway. A connection that was made to the
// gateway's port itself is left alone: no service has that port, so it is closed.
func entryRules(r api.PortRange) []rule {
	return []rule{
		{chainPrerouting, join(notTCP(), done())},
		{chainPrerouting, join(fromLoopbackDevice(), done())},
		{chainPrerouting, join(ports(r.First, r.Last), redirect(api.PortEntry))},
	}
}
