package config

import "fmt"

// matches knows which chain each single combination of criteria leads to. Two
// chains, or one twice, may not have the same: Envoy refuses that.
type matches map[matchKey]int

type matchKey struct {
	port                                  uint16
	name, transport, application, sources string
}

// take notes the combinations of m for the chain of that index.
func (t matches) take(chain int, m Match) error {
	for _, name := range orNone(m.ServerNames) {
		for _, app := range orNone(m.Applications) {
			for _, source := range m.Sources.names() {
				key := matchKey{m.Port, name, m.Transport, app, source}
				if other, ok := t[key]; ok {
					return fmt.Errorf("the same as that of filter_chains[%d] in port %d, name %q, transport %q, application %q, source %q",
						other, key.port, key.name, key.transport, key.application, key.sources)
				}
				t[key] = chain
			}
		}
	}
	return nil
}

// orNone returns list, or the one empty criterion that an empty list is.
func orNone(list []string) []string {
	if len(list) == 0 {
		return []string{""}
	}
	return list
}
