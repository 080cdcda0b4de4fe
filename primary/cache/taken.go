package cache

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/federation"
)

// takenEntries finds ports at entry gateways that several services claim, which
// no controller of ours writes but slices may say. The first service by key has
// the port; for the others it says, as comparable text, which they go without.
func takenEntries(s *federation.Snapshot) map[federation.ServiceKey]string {
	type place struct {
		cluster federation.ClusterName
		port    uint16
	}
	type meant struct {
		service federation.ServiceKey
		port    uint16
	}
	owner := map[place]meant{}
	var taken map[federation.ServiceKey]string
	for svc := range s.Services() {
		for _, p := range svc.EntryPorts {
			at, me := place{p.Cluster, p.Port}, meant{svc.Key, p.Service}
			if has, ok := owner[at]; !ok {
				owner[at] = me
			} else if has != me {
				if taken == nil {
					taken = map[federation.ServiceKey]string{}
				}
				taken[svc.Key] += takenEntry(p)
			}
		}
	}
	return taken
}

// takenEntry is how takenEntries writes one.
func takenEntry(p federation.EntryPort) string {
	return fmt.Sprintf("|%s/%d/%d|", p.Cluster, p.Port, p.Service)
}
