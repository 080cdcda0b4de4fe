package ads

import (
	"cmp"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// ProxyStatus is what is known of a connected proxy, for the debug view.
type ProxyStatus struct {
	Node      string       `json:"node"`
	Cluster   string       `json:"cluster"`
	Network   string       `json:"network"`
	Namespace string       `json:"namespace"`
	Account   string       `json:"account"`
	Pod       string       `json:"pod"`
	Type      string       `json:"type"` // sidecar, east-west or entry
	Version   string       `json:"version,omitempty"`
	Connected time.Time    `json:"connected"`
	Protocol  string       `json:"protocol"` // delta or sotw
	Types     []TypeStatus `json:"types"`
}

// TypeStatus is a proxy's state in one resource type. Synced means that the
// proxy took everything that it was to be sent.
type TypeStatus struct {
	Type     string             `json:"type"`
	Sent     int                `json:"sent"`
	Acked    int                `json:"acked"`
	Version  string             `json:"version"` // hash of what was sent
	LastSent time.Time          `json:"lastSent,omitzero"`
	Pending  bool               `json:"pending"` // sent, and not answered yet
	Synced   bool               `json:"synced"`
	Refused  map[string]Refused `json:"refused,omitempty"`
}

// Refused is a version of a resource that the proxy did not take.
type Refused struct {
	Version string `json:"version"`
	Error   string `json:"error"`
}

// Proxies returns the connected proxies, sorted by cluster, namespace and pod.
func (s *Server) Proxies() []ProxyStatus {
	s.mu.Lock()
	var streams []*stream
	for st := range s.streams {
		streams = append(streams, st)
	}
	s.mu.Unlock()
	out := make([]ProxyStatus, 0, len(streams))
	for _, st := range streams {
		if p, ok := st.status(); ok {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b ProxyStatus) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod), a.Connected.Compare(b.Connected))
	})
	return out
}

func (st *stream) status() (ProxyStatus, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.member == nil {
		return ProxyStatus{}, false
	}
	p := ProxyStatus{
		Node: st.node.id, Cluster: string(st.node.cluster), Network: string(st.member.Proxy().Group.Network),
		Namespace: st.node.caller.ID.Namespace(), Account: st.node.caller.ID.ServiceAccount(), Pod: st.node.pod,
		Type: st.node.kind.String(), Version: st.node.version, Connected: st.since, Protocol: protocolName(st.wire.sotw()),
	}
	for t := range resources.Type(resources.TypeCount) {
		if sub := st.session.of(t); sub != nil {
			p.Types = append(p.Types, sub.status())
		}
	}
	return p, true
}

func (s *subscription) status() TypeStatus {
	t := TypeStatus{Type: s.typ.String(), Version: s.worldVersion(), LastSent: s.sentAt, Pending: s.flight != nil}
	for name, version := range s.has {
		if version == "" {
			continue
		}
		t.Sent++
		if s.acked[name] == version {
			t.Acked++
		}
	}
	for name, bad := range s.refused {
		if t.Refused == nil {
			t.Refused = map[string]Refused{}
		}
		t.Refused[name] = Refused{Version: bad.Version, Error: bad.Err}
	}
	t.Synced = t.Sent == t.Acked && !t.Pending && !s.all && len(s.dirty) == 0
	return t
}

// oldest returns when the oldest unanswered response was sent, or zero.
func (s *session) oldest() (t time.Time) {
	for _, sub := range s.types {
		if sub.flight != nil && (t.IsZero() || sub.flight.since.Before(t)) {
			t = sub.flight.since
		}
	}
	return t
}
