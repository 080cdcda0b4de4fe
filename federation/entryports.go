package federation

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ParseEntryPorts reads api.AnnotationEntryPorts: "9080=20001,9090=20002". The
// result is sorted by Service, names no Cluster, and has neither a port of the
// service nor one of the entry gateway twice. At most MaxCheckpointPorts.
func ParseEntryPorts(text string) ([]EntryPort, error) {
	var out []EntryPort
	for pair := range strings.SplitSeq(text, ",") {
		service, entry, _ := strings.Cut(pair, "=")
		s, err := strconv.ParseUint(service, 10, 16)
		e, err2 := strconv.ParseUint(entry, 10, 16)
		switch p := (EntryPort{Service: uint16(s), Port: uint16(e)}); {
		case err != nil || err2 != nil || s == 0 || e == 0:
			return nil, fmt.Errorf("entry port %.20q is not PORT=PORT", pair)
		case slices.ContainsFunc(out, func(o EntryPort) bool { return o.Service == p.Service || o.Port == p.Port }):
			return nil, fmt.Errorf("entry port %q: one of the two ports is given already", pair)
		case len(out) == MaxCheckpointPorts:
			return nil, fmt.Errorf("more than %d entry ports", MaxCheckpointPorts)
		default:
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b EntryPort) int { return cmp.Compare(a.Service, b.Service) })
	return out, nil
}
