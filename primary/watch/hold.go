package watch

import (
	"reflect"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/ingest"
)

// holdFor is how long a mere change of weight may wait for more of its kind.
const holdFor = time.Second

// hold keeps back snapshots that differ from what was published in weights
// alone: in how many endpoints of other networks are ready. Those only shift
// shares between gateways, so the changes of a second go out together. The loop's
// alone.
type hold struct {
	built *federation.Snapshot // the newest, published or not
	since time.Time            // of the first one held; zero while none is
}

// due is when what is held has to go out; zero while nothing is.
func (h *hold) due() time.Time {
	if h.since.IsZero() {
		return time.Time{}
	}
	return h.since.Add(holdFor)
}

// add takes a snapshot that was built from ch, and reports whether it may wait.
// Where it may not, it has to be published. Only what ch names is compared: the
// rest is what it was when last compared, or published.
func (h *hold) add(published, next *federation.Snapshot, ch ingest.Changes, home federation.ClusterName, now time.Time) bool {
	h.built = next
	if published == nil || ch.All || len(ch.Workloads) > 0 && !sameWorkloads(published, next, ch) || !sameRest(published, next) {
		return false
	}
	network := next.Cluster(home).Network
	for n := range ch.Services {
		for _, in := range []federation.ClusterName{"", home} {
			key := federation.ServiceKey{Cluster: in, Namespace: n.Namespace, Name: n.Name}
			if !sameButWeight(published.Service(key), next.Service(key), network) {
				return false
			}
		}
	}
	if h.since.IsZero() {
		h.since = now
	}
	return true
}

// release forgets what was held, as it is published now.
func (h *hold) release() {
	h.since = time.Time{}
}

func sameWorkloads(a, b *federation.Snapshot, ch ingest.Changes) bool {
	for k := range ch.Workloads {
		if a.Workload(k) != b.Workload(k) {
			return false
		}
	}
	return true
}

// sameRest compares what is neither a service nor a workload.
func sameRest(a, b *federation.Snapshot) bool {
	return slices.Equal(a.Clusters(), b.Clusters()) && slices.Equal(a.Problems(), b.Problems())
}

// sameButWeight reports whether proxies of network do with b what they do with
// a, but for how much each gateway is given; either may be nil. Each pod of a
// headless service is called by itself, so there a change is never of weight alone.
func sameButWeight(a, b *federation.Service, network federation.NetworkName) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil || a.Headless || b.Headless || !reflect.DeepEqual(frame(a), frame(b)) {
		return false
	}
	return reflect.DeepEqual(near(a, network), near(b, network)) && reflect.DeepEqual(behind(a, network), behind(b, network))
}

// frame is a service without what is behind it.
func frame(s *federation.Service) federation.Service {
	f := *s
	f.Endpoints, f.Counts = nil, nil
	return f
}

// near are the endpoints whose addresses proxies of network use.
func near(s *federation.Service, network federation.NetworkName) []federation.Endpoint {
	var out []federation.Endpoint
	for _, e := range s.Endpoints {
		if e.Network == network {
			out = append(out, e)
		}
	}
	return out
}

// way is what leads to endpoints of another network: a port of the service by
// the gateways of a cluster's network. Where such a one comes or goes, that is
// from zero or to zero.
type way struct {
	cluster federation.ClusterName
	network federation.NetworkName
	port    uint16
	tunnel  federation.Tunnel
	health  federation.Health
}

func behind(s *federation.Service, network federation.NetworkName) map[way]struct{} {
	out := map[way]struct{}{}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.Network == network || e.Health == federation.NotReady {
			continue
		}
		for _, p := range e.Ports {
			out[way{e.Cluster, e.Network, p.Service, e.Tunnel, e.Health}] = struct{}{}
		}
		for _, p := range e.Others {
			out[way{e.Cluster, e.Network, p.Service, federation.TunnelNone, e.Health}] = struct{}{}
		}
	}
	for _, c := range s.Counts {
		if c.Ready > 0 {
			out[way{c.Cluster, c.Network, c.Port, federation.TunnelMTLS, federation.Ready}] = struct{}{}
		}
	}
	return out
}
