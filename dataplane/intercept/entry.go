package intercept

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/api"
)

// A PortRange is the ports from First to Last, both included. The zero one is
// none.
type PortRange struct{ First, Last uint16 }

// IsZero reports whether there is no port in r.
func (r PortRange) IsZero() bool { return r == PortRange{} }

// String returns r as ParsePortRange reads it.
func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// minEntryPort is the least port of a range: those below are the system's.
const minEntryPort = 1024

// ParsePortRange parses a range such as 20000-29999 within 1024 to 65535, in
// which none of the gateway's own ports lies.
func ParsePortRange(text string) (PortRange, error) {
	from, to, ok := strings.Cut(strings.TrimSpace(text), "-")
	first, errFirst := strconv.ParseUint(from, 10, 16)
	last, errLast := strconv.ParseUint(to, 10, 16)
	if !ok || errFirst != nil || errLast != nil {
		return PortRange{}, fmt.Errorf("%q is no range of ports such as 20000-29999", text)
	}
	if first < minEntryPort || first > last {
		return PortRange{}, fmt.Errorf("range %q does not lie within %d-65535 in ascending order", text, minEntryPort)
	}
	for _, own := range []uint64{api.PortAdmin, api.PortHealth, api.PortProxyMetrics, api.PortEntry} {
		if first <= own && own <= last {
			return PortRange{}, fmt.Errorf("range %q: port %d is the gateway's own", text, own)
		}
	}
	return PortRange{uint16(first), uint16(last)}, nil
}

// entryRules lead r to the entry gateway. A connection that was made to the
// gateway's port itself is left alone: no service has that port, so it is closed.
func entryRules(r PortRange) []rule {
	return []rule{
		{chainPrerouting, join(notTCP(), done())},
		{chainPrerouting, join(fromLoopbackDevice(), done())},
		{chainPrerouting, join(ports(r.First, r.Last), redirect(api.PortEntry))},
	}
}
