package corefile

import (
	"slices"
	"strings"
)

// normal is a zone as CoreDNS compares it: lower case, without the last dot; the
// root is "".
func normal(zone string) string { return strings.ToLower(strings.TrimSuffix(zone, ".")) }

// keyZone is the zone that the key of a server block names: without scheme,
// port and comma.
func keyZone(key string) string {
	key = strings.TrimSuffix(key, ",")
	if _, rest, ok := strings.Cut(key, "://"); ok {
		key = rest
	}
	key, _, _ = strings.Cut(key, ":")
	return normal(key)
}

// isReverse reports whether a zone is one of addresses.
func isReverse(zone string) bool {
	return strings.HasSuffix(normal(zone), "in-addr.arpa") || strings.HasSuffix(normal(zone), "ip6.arpa") || strings.Contains(zone, "/")
}

// index finds zone among words; -1 where it is not.
func index(words []token, zone string) int {
	return slices.IndexFunc(words, func(t token) bool { return normal(t.text) == normal(zone) })
}

// covers reports whether one of words is zone or a parent of it.
func covers(words []token, zone string) bool {
	return slices.ContainsFunc(words, func(t token) bool {
		z := normal(t.text)
		return z == "" || normal(zone) == z || strings.HasSuffix(normal(zone), "."+z)
	})
}

// serves reports whether a question for zone reaches s where no block is nearer.
func (s server) serves(zone string) bool {
	return slices.ContainsFunc(s.keys, func(t token) bool { return covers([]token{{text: keyZone(t.text)}}, zone) })
}

func (s server) isSnippet() bool {
	return len(s.keys) == 1 && strings.HasPrefix(s.keys[0].text, "(") && strings.HasSuffix(s.keys[0].text, ")")
}
