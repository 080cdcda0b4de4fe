package webhook

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/api"
)

// A list is a pair of annotations, ours and Istio's, that name in a
// comma-separated list what the sidecar takes or leaves alone.
type list struct {
	ours, istio string // Istio has no name for some
	variable    string // of the init container
	check       func(string) error
	included    bool   // "*" is everything, as when the annotation is not there
	none        string // what an empty list of included is called
}

var lists = []list{
	{ours: api.AnnotationExcludeInboundPorts, istio: istioTraffic + "excludeInboundPorts", variable: "ISTHMUS_EXCLUDE_INBOUND_PORTS", check: checkPort},
	{ours: api.AnnotationExcludeOutboundPorts, istio: istioTraffic + "excludeOutboundPorts", variable: "ISTHMUS_EXCLUDE_OUTBOUND_PORTS", check: checkPort},
	{ours: api.AnnotationExcludeOutboundCIDRs, istio: istioTraffic + "excludeOutboundIPRanges", variable: "ISTHMUS_EXCLUDE_OUTBOUND_CIDRS", check: checkCIDR},
	{ours: api.AnnotationExcludeOutboundUIDs, variable: "ISTHMUS_EXCLUDE_OUTBOUND_UIDS", check: checkID},
	{ours: api.AnnotationExcludeOutboundGIDs, variable: "ISTHMUS_EXCLUDE_OUTBOUND_GIDS", check: checkID},
	{ours: api.AnnotationExcludeInterfaces, istio: istioTraffic + "excludeInterfaces", variable: "ISTHMUS_EXCLUDE_INTERFACES", check: checkInterface},
	{ours: api.AnnotationIncludeInboundPorts, istio: istioTraffic + "includeInboundPorts", variable: "ISTHMUS_INCLUDE_INBOUND_PORTS", check: checkPort, included: true, none: "none"},
	{ours: api.AnnotationIncludeOutboundCIDRs, istio: istioTraffic + "includeOutboundIPRanges", variable: "ISTHMUS_INCLUDE_OUTBOUND_CIDRS", check: checkCIDR, included: true, none: "none"},
	{ours: api.AnnotationIncludeOutboundPorts, istio: istioTraffic + "includeOutboundPorts", variable: "ISTHMUS_INCLUDE_OUTBOUND_PORTS", check: checkPort, included: true},
}

// read returns the list as the init container is told it, "" for what is so
// anyway, and a warning where one of two annotations has no effect.
func (l list) read(annotations map[string]string) (value, warning string, err error) {
	name := l.ours
	text, ok := annotations[name]
	theirs, both := annotations[l.istio]
	switch {
	case !ok && !both:
		return "", "", nil
	case !ok:
		name, text = l.istio, theirs
	case both && theirs != text:
		warning = fmt.Sprintf("annotation %s is not read, because %s is there", l.istio, l.ours)
	}
	items := split(text)
	if l.included && len(items) == 0 {
		return l.none, warning, nil
	}
	if l.included && len(items) == 1 && items[0] == "*" {
		return "*", warning, nil
	}
	if len(items) > api.MaxExclusions {
		return "", "", fmt.Errorf("annotation %s: %d items, at most %d can be named", name, len(items), api.MaxExclusions)
	}
	for _, item := range items {
		if err := l.check(item); err != nil {
			return "", "", fmt.Errorf("annotation %s: %w", name, err)
		}
	}
	return strings.Join(items, ","), warning, nil
}

// split returns the items of a comma-separated list.
func split(text string) []string {
	items := strings.Split(text, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return slices.DeleteFunc(items, func(s string) bool { return s == "" })
}

func checkPort(s string) error {
	if n, err := strconv.ParseUint(s, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is not a port from 1 to 65535", shorten(s))
	}
	return nil
}

func checkCIDR(s string) error {
	if p, err := netip.ParsePrefix(s); err != nil || p.Addr().Is4In6() {
		return fmt.Errorf("%q is not an address range such as 10.0.0.0/8", shorten(s))
	}
	return nil
}

func checkID(s string) error {
	if n, err := strconv.ParseUint(s, 10, 32); err != nil || n > api.MaxID {
		return fmt.Errorf("%q is not a numeric id from 0 to %d", shorten(s), uint32(api.MaxID))
	}
	return nil
}

func checkInterface(s string) error {
	if !api.ValidInterface(s) {
		return fmt.Errorf("%q is not the name of a network interface", shorten(s))
	}
	return nil
}
