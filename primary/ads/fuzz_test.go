package ads

import (
	"fmt"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/meshtest"
	"github.com/isthmus-mesh/isthmus/primary/cache"
)

// states are what one proxy is to be sent under several meshes in turn.
func states(t testing.TB, kind cache.Kind) []*cache.State {
	t.Helper()
	c := cache.New(nil)
	var m *cache.Member
	var out []*cache.State
	for _, mesh := range []string{
		"service a.n@east\n  port 1 http\n  vip east 10.0.0.1\n",
		"service a.n@east\n  port 1 tcp\n  vip east 10.0.0.1\nservice b.n\n  port 2 tcp\n  vip east 10.0.0.2\n  entry east 2 20001\n",
		"cluster west network=green\nservice b.n\n  port 2 http\n  vip east 10.0.0.2\n  account b\n  entry east 2 20001\nservice c.n\n  port 2 tcp\n  entry east 2 20002\n",
		"service c.n\n  port 2 tcp\n  entry east 2 20001\nworkload east/n/p account=a 80/http\n",
	} {
		c.Update(meshtest.Snapshot(t, "cluster east network=blue local read\n"+mesh))
		if m == nil {
			m = c.Join(cache.Proxy{
				Group:    cache.Group{Kind: kind, Cluster: "east", Network: "blue", MTLS: true},
				Workload: federation.WorkloadKey{Cluster: "east", Namespace: "n", Name: "p"}, Identity: "spiffe://cluster.local/ns/n/sa/a",
			})
		}
		out = append(out, m.State())
	}
	return out
}

// No sequence of requests and changes breaks a session: there is no panic, one
// response of a type at a time, an end to the responses, and in the end the
// client has what it asked for.
func FuzzSession(f *testing.F) {
	kinds := [][]*cache.State{states(f, cache.Sidecar), states(f, cache.Entry)}
	f.Add(false, []byte{0, 1, 2, 3, 250, 251, 17, 99, 42, 7})
	f.Add(false, []byte{0, 1, 1, 4, 250, 251, 32, 0, 33, 0, 250, 251, 32, 0, 33, 4, 250, 0, 0})
	f.Add(true, []byte{0, 16, 32, 48, 255, 1, 0, 9, 200, 33, 21})
	f.Fuzz(func(t *testing.T, sotw bool, script []byte) {
		if len(script) > 200 {
			return
		}
		now := time.Unix(0, 0)
		all := kinds[len(script)%2] // an entry gateway's last byte counts for nothing
		s := newSession(sotw, now)
		at := 0
		s.update(all[at])
		for i := 0; i+1 < len(script); i += 2 {
			op, arg := script[i], script[i+1]
			now = now.Add(time.Duration(arg) * time.Millisecond)
			if op >= 240 && at+1 < len(all) {
				at++
				s.update(all[at])
			} else if _, err := s.handle(scripted(s, op, arg)); err != nil {
				return // the stream ends
			}
			drain(t, s, now)
		}
		settle(t, s, now)
	})
}

// scripted makes a request of any kind out of two bytes.
func scripted(s *session, op, arg byte) *request {
	urls := []string{cdsURL, edsURL, ldsURL, rdsURL, "unknown"}
	names := []string{"*", "outbound|1||a.n.svc.cluster.local", "outbound|2||b.n.svc.clusterset.local", "inbound", "no such"}
	r := &request{url: urls[int(op)%len(urls)]}
	if sub := s.types[r.url]; sub != nil && op&32 != 0 {
		r.nonce = sub.lastNonce
	}
	if op&64 != 0 {
		r.nonce = "stale"
	}
	if op&128 != 0 {
		r.refused = names[int(arg)%len(names)] + " is bad"
	}
	for i, name := range names {
		switch {
		case arg&(1<<i) == 0:
		case arg&128 != 0:
			r.unsubscribe = append(r.unsubscribe, name)
		default:
			r.subscribe = append(r.subscribe, name)
			r.names = append(r.names, name)
		}
	}
	if arg&64 != 0 {
		r.versions, r.version = map[string]string{names[2]: "v", "gone": "v"}, "v"
	}
	return r
}

const (
	cdsURL = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	edsURL = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	ldsURL = "type.googleapis.com/envoy.config.listener.v3.Listener"
	rdsURL = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

// drain takes what is due and leaves it unanswered.
func drain(t *testing.T, s *session, now time.Time) (got []*response) {
	t.Helper()
	for range maxTypes + 1 {
		r, _ := s.next(now)
		if r == nil {
			return got
		}
		got = append(got, r)
	}
	t.Fatal("responses without end")
	return nil
}

// settle answers everything until nothing more comes, and compares.
func settle(t *testing.T, s *session, now time.Time) {
	t.Helper()
	for round := 0; ; round++ {
		now = now.Add(time.Minute)
		drain(t, s, now)
		open := false
		for _, sub := range s.types {
			if sub.flight != nil {
				open = true
				sub.settle(&request{url: sub.url, nonce: sub.flight.nonce})
			}
		}
		if !open {
			break
		}
		if round > 50 {
			t.Fatal("it never ends")
		}
	}
	for _, sub := range s.types {
		for name := range sub.names {
			if r := sub.lookup(s.state, name); r != nil && sub.has[name] != r.Version && sub.refused[name].Version != r.Version && !sub.claimed[name] {
				t.Errorf("%s %s: client has %q, should have %q", sub.url, name, sub.has[name], r.Version)
			}
		}
		for name, version := range sub.has {
			if version != "" && !sub.claimed[name] && sub.lookup(s.state, name) == nil && !s.state.Withheld(name, false) {
				t.Errorf("%s %s: client still has %q", sub.url, name, version)
			}
		}
	}
}

// Requests as bytes off the wire: what decodes is handled or refused.
func FuzzRequest(f *testing.F) {
	seed := func(m proto.Message) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	seed(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cdsURL, Node: &corev3.Node{Id: "x"}, InitialResourceVersions: map[string]string{"a": "b"}})
	seed(&discoveryv3.DiscoveryRequest{TypeUrl: edsURL, ResourceNames: []string{"a", "*"}, VersionInfo: "1"})
	state := states(f, cache.Sidecar)[0]
	id, err := meshtest.Account("n", "a")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var d discoveryv3.DeltaDiscoveryRequest
		if proto.Unmarshal(data, &d) == nil {
			_, _ = newNode(d.GetNode(), Caller{ID: id, Cluster: "east"}) // must not panic
			try(t, false, state, &request{url: d.TypeUrl, subscribe: d.ResourceNamesSubscribe, unsubscribe: d.ResourceNamesUnsubscribe, versions: d.InitialResourceVersions, nonce: d.ResponseNonce})
		}
		var w discoveryv3.DiscoveryRequest
		if proto.Unmarshal(data, &w) == nil {
			try(t, true, state, &request{url: w.TypeUrl, names: w.ResourceNames, version: w.VersionInfo, nonce: w.ResponseNonce})
		}
	})
}

func try(t *testing.T, sotw bool, state *cache.State, r *request) {
	t.Helper()
	s := newSession(sotw, time.Unix(0, 0))
	s.update(state)
	for range 2 {
		if _, err := s.handle(r); err != nil {
			return
		}
		drain(t, s, time.Unix(1, 0))
	}
}

// A NACK blames the resources that it names, as whole words, and all of the
// response where it names none.
func TestBlamed(t *testing.T) {
	items := []item{{name: "inbound"}, {name: "inbound|80||"}, {name: "outbound|1||a.b.svc.cluster.local"}}
	for message, want := range map[string]string{
		"":                            "[]",
		"listener inbound: bad field": "[inbound]",
		"inbound|80||: no, outbound|1||a.b.svc.cluster.local: no":                          "[inbound|80|| outbound|1||a.b.svc.cluster.local]",
		"Error adding/updating listener(s) outbound|1||a.b.svc.cluster.local: no such one": "[outbound|1||a.b.svc.cluster.local]",
		"broken": "[inbound inbound|80|| outbound|1||a.b.svc.cluster.local]",
	} {
		bad := blamed(items, message)
		got := []string{}
		for _, it := range items {
			if bad[it.name] {
				got = append(got, it.name)
			}
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%q blames %v, want %s", message, got, want)
		}
	}
}
