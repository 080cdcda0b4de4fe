package controllers

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
)

// ImportOptions configures Imports.
type ImportOptions struct {
	Cluster    federation.ClusterName // required; the local cluster
	Namespace  string                 // of the mesh; "" means api.SystemNamespace
	EntryPorts PortRange              // of the entry gateway; the zero range has none to give
	Synthetic  netip.Prefix           // IPv4; the zero prefix has no address to give
	Log        *slog.Logger           // required
}

// PortRange is a range of TCP ports, both ends in it. The zero range is empty.
type PortRange struct{ First, Last uint16 }

// String returns what ParsePortRange reads.
func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// Contains reports whether port is in the range.
func (r PortRange) Contains(port uint16) bool { return port != 0 && r.First <= port && port <= r.Last }

// errPortRange is wrapped by the errors of ParsePortRange.
var errPortRange = errors.New("not a range of ports")

// ParsePortRange reads "FIRST-LAST": ports from 1024 to 65535, of which none is
// the entry gateway's own, as its init container demands too.
func ParsePortRange(text string) (PortRange, error) {
	first, last, ok := strings.Cut(text, "-")
	a, err := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if !ok || err != nil || err2 != nil {
		return PortRange{}, fmt.Errorf("%w: %q is not of the form 20000-29999", errPortRange, text)
	}
	if a < 1024 || b < a {
		return PortRange{}, fmt.Errorf("%w: %q does not lie within 1024-65535 in ascending order", errPortRange, text)
	}
	r := PortRange{uint16(a), uint16(b)}
	for _, own := range []uint16{api.PortAdmin, api.PortHealth, api.PortProxyMetrics, api.PortEntry} {
		if r.Contains(own) {
			return PortRange{}, fmt.Errorf("%w of an entry gateway: %q holds port %d, which is the proxy's own", errPortRange, text, own)
		}
	}
	return r, nil
}
