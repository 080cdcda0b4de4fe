package meshtest

import (
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/federation"
)

// words are a line's values by key, and those without key in order.
type words struct {
	plain []string
	keyed map[string]string
}

func split(line string) words {
	w := words{keyed: map[string]string{}}
	for _, f := range strings.Fields(line)[1:] {
		if k, v, ok := strings.Cut(f, "="); ok {
			w.keyed[k] = v
		} else {
			w.plain = append(w.plain, f)
		}
	}
	return w
}

func (w words) at(i int) string {
	if i < len(w.plain) {
		return w.plain[i]
	}
	return ""
}

func (w words) has(flag string) bool { return slices.Contains(w.plain, flag) }

// list parses what stands between commas; nothing is nil.
func list[T any](s string, parse func(string) (T, error)) ([]T, error) {
	var out []T
	for part := range strings.SplitSeq(s, ",") {
		if part == "" {
			continue
		}
		v, err := parse(part)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// clusters are names between commas, sorted; nothing is nil.
func clusters(s string) []federation.ClusterName {
	out, _ := list(s, func(name string) (federation.ClusterName, error) { return federation.ClusterName(name), nil })
	slices.Sort(out)
	return out
}

func number(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}

func protocol(s string) federation.Protocol {
	switch s {
	case "http":
		return federation.ProtocolHTTP
	case "http2":
		return federation.ProtocolHTTP2
	case "tcp":
		return federation.ProtocolTCP
	case "udp":
		return federation.ProtocolUDP
	}
	return federation.ProtocolAuto
}

func mode(s string) federation.MTLSMode {
	switch s {
	case "strict":
		return federation.MTLSStrict
	case "disable":
		return federation.MTLSDisable
	}
	return federation.MTLSPermissive
}
