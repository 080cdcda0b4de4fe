package ads

import (
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// flight is a response that the client has not answered yet.
type flight struct {
	nonce string
	since time.Time
	items []item
}

type item struct {
	name, version string
	before        *resources.Resource // what the client had, if this server sent it
}

// refusal is a version that the client did not take. It is not sent again.
type refusal struct {
	Version string
	Err     string
	good    *resources.Resource // what it has instead, if this server sent it
}

// good returns the last resource that the client did not refuse, of those that
// this server sent.
func (s *subscription) good(name string) *resources.Resource {
	if bad, ok := s.refused[name]; ok {
		return bad.good
	}
	return s.bodies[name]
}

// answer notes the client's answer to the response in flight and returns the
// names that it refused; message is empty for an ACK.
func (s *subscription) answer(message string) (refused []string) {
	items := s.flight.items
	s.flight = nil
	bad := blamed(items, message)
	for _, it := range items {
		switch {
		case s.has[it.name] != it.version: // unsubscribed from meanwhile
		case bad[it.name]:
			s.refused[it.name] = refusal{Version: it.version, Err: clip(message, maxShown), good: it.before}
			refused = append(refused, it.name)
		default:
			delete(s.refused, it.name)
			s.acked[it.name] = it.version
		}
	}
	return refused
}

// blamed returns which items a NACK is about. The protocol has no field for it,
// but clients name the resources in the message; where none is named, all are.
func blamed(items []item, message string) map[string]bool {
	out := map[string]bool{}
	if message == "" {
		return out
	}
	for _, it := range items {
		if mentions(message, it.name) {
			out[it.name] = true
		}
	}
	if len(out) == 0 {
		for _, it := range items {
			out[it.name] = true
		}
	}
	return out
}

// mentions reports whether name stands in message as a word of its own, so that
// "inbound" is not found in "inbound|80||".
func mentions(message, name string) bool {
	for from := 0; ; {
		i := strings.Index(message[from:], name)
		if i < 0 {
			return false
		}
		start, end := from+i, from+i+len(name)
		if !nameByte(message, start-1) && !nameByte(message, end) {
			return true
		}
		from = end
	}
}

// nameByte reports whether the byte at i continues a resource name. A dot or
// hyphen at the end of a sentence would not, but no message ends a name so.
func nameByte(s string, i int) bool {
	if i < 0 || i >= len(s) {
		return false
	}
	c := s[i]
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '|' || c == '-' || c == '_'
}
