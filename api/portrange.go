package api

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A PortRange is the TCP ports from First to Last, both included. The zero one
// is none.
type PortRange struct{ First, Last uint16 }

// minEntryPort is the least port of a range: those below are the system's.
const minEntryPort = 1024

// Among the ports from firstProxyPort to lastProxyPort are those at which
// programs of Isthmus listen, except the gateways' two.
const firstProxyPort, lastProxyPort = 15000, 15099

// ErrPortRange is wrapped by the errors of ParsePortRange.
var ErrPortRange = errors.New("not a range of ports")

// ParsePortRange reads the ports of the entry gateway, "FIRST-LAST", within
// 1024-65535. None may be the proxy's own: 15000 to 15099, and PortEntry, to
// which the range is redirected.
func ParsePortRange(text string) (PortRange, error) {
	from, to, ok := strings.Cut(text, "-")
	first, errFirst := strconv.ParseUint(from, 10, 16)
	last, errLast := strconv.ParseUint(to, 10, 16)
	if !ok || errFirst != nil || errLast != nil {
		return PortRange{}, fmt.Errorf("%w: %q is not of the form 20000-29999", ErrPortRange, text)
	}
	if first < minEntryPort || last < first {
		return PortRange{}, fmt.Errorf("%w: %q does not lie within %d-65535 in ascending order", ErrPortRange, text, minEntryPort)
	}
	if first <= lastProxyPort && firstProxyPort <= last {
		return PortRange{}, fmt.Errorf("%w of an entry gateway: %q holds ports from %d to %d, which are the proxy's own", ErrPortRange, text, firstProxyPort, lastProxyPort)
	}
	r := PortRange{uint16(first), uint16(last)}
	if r.Contains(PortEntry) {
		return PortRange{}, fmt.Errorf("%w of an entry gateway: %q holds port %d, which is the proxy's own", ErrPortRange, text, PortEntry)
	}
	return r, nil
}

// IsZero reports whether there is no port in r.
func (r PortRange) IsZero() bool { return r == PortRange{} }

// String returns what ParsePortRange reads.
func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// Contains reports whether port is in r.
func (r PortRange) Contains(port uint16) bool { return port != 0 && r.First <= port && port <= r.Last }
