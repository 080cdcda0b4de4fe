package xds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A modelServer is a plain delta server over contents that change at random. It
// sends a version once, whether it is refused or not.
type modelServer struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	t        testing.TB
	mu       sync.Mutex
	contents map[string]map[string]*discoveryv3.Resource
	changed  chan struct{}
	cut      chan struct{}
}

func newModelServer(t testing.TB) *modelServer {
	s := &modelServer{t: t, contents: map[string]map[string]*discoveryv3.Resource{}, changed: make(chan struct{}), cut: make(chan struct{})}
	for _, typeURL := range Types() {
		s.contents[typeURL] = map[string]*discoveryv3.Resource{}
	}
	return s
}

// change applies f and wakes the streams; with cut it ends them instead.
func (s *modelServer) change(cut bool, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	if cut {
		close(s.cut)
		s.cut = make(chan struct{})
		return
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *modelServer) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	requests := make(chan *discoveryv3.DeltaDiscoveryRequest)
	go func() {
		for {
			r, err := g.Recv()
			if err != nil {
				return
			}
			select {
			case requests <- r:
			case <-g.Context().Done():
				return
			}
		}
	}()
	sent, names, asked := map[string]map[string]string{}, map[string]map[string]bool{}, map[string]bool{}
	for _, typeURL := range Types() {
		sent[typeURL], names[typeURL] = map[string]string{}, map[string]bool{}
	}
	s.mu.Lock()
	cut := s.cut
	s.mu.Unlock()
	for n := 0; ; n++ {
		s.mu.Lock()
		changed := s.changed
		var out []*discoveryv3.DeltaDiscoveryResponse
		for _, typeURL := range Types() {
			if r := s.due(typeURL, sent[typeURL], names[typeURL], asked); r != nil {
				r.Nonce = fmt.Sprint(n, typeURL)
				out = append(out, r)
			}
		}
		s.mu.Unlock()
		for _, r := range out {
			if err := g.Send(r); err != nil {
				return err
			}
		}
		select {
		case <-g.Context().Done():
			return nil
		case <-cut:
			return status.Error(codes.Unavailable, "cut")
		case <-changed:
		case r := <-requests:
			typeURL := r.GetTypeUrl()
			if r.GetResponseNonce() != "" {
				continue
			}
			if !asked[typeURL] {
				maps.Copy(sent[typeURL], r.GetInitialResourceVersions())
			}
			asked[typeURL] = true
			for _, name := range r.GetResourceNamesSubscribe() {
				names[typeURL][name] = true
			}
			for _, name := range r.GetResourceNamesUnsubscribe() {
				delete(names[typeURL], name)
				delete(sent[typeURL], name)
			}
		}
	}
}

// due returns what a stream lacks of a type, or nil. The lock is held.
func (s *modelServer) due(typeURL string, sent map[string]string, names, asked map[string]bool) *discoveryv3.DeltaDiscoveryResponse {
	if !asked[typeURL] {
		return nil
	}
	r := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL}
	for name, res := range s.contents[typeURL] {
		if (wildcard(typeURL) || names[name]) && sent[name] != res.GetVersion() {
			sent[name] = res.GetVersion()
			r.Resources = append(r.Resources, res)
		}
	}
	for name := range sent {
		if _, ok := s.contents[typeURL][name]; !ok {
			delete(sent, name)
			r.RemovedResources = append(r.RemovedResources, name)
		}
	}
	if len(r.Resources)+len(r.RemovedResources) == 0 {
		return nil
	}
	return r
}

// Whatever changes, whatever is refused and however often the stream is cut:
// in the end the client has the newest good version of everything that its xds
// clusters and listeners refer to, and nothing else.
func TestAnyHistoryEndsTheSame(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			server, l := newModelServer(t), newModelListener(t)
			serveModel(t, l, server)
			r := newRecorder()
			r.refuse("bad", "")
			c, _ := start(t, l.Addr().String(), r, func(o *Options) { o.Patience = time.Millisecond })
			for step := range 150 {
				server.change(rng.IntN(12) == 0, func() { mutate(t, rng, server.contents, step) })
			}
			server.change(false, func() { delete(server.contents[TypeCluster], "bad") })
			want := server.wanted()
			end := time.Now().Add(deadline)
			for !sameAs(r, want) {
				if time.Now().After(end) {
					t.Fatalf("client has %v\nwant %v\nstatus %+v", r.versions(), want, c.Status())
				}
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
}

// mutate changes, adds or removes one resource. An xds cluster refers to any load
// assignment, maybe that of others too, a listener to the routes of its name.
func mutate(t testing.TB, rng *rand.Rand, contents map[string]map[string]*discoveryv3.Resource, step int) {
	name := fmt.Sprint("r", rng.IntN(6))
	typeURL := Types()[rng.IntN(4)]
	if rng.IntN(4) == 0 {
		delete(contents[typeURL], name)
		return
	}
	version := fmt.Sprint(step)
	switch typeURL {
	case TypeCluster:
		contents[typeURL][name] = wrap(t, version, sharing(name, fmt.Sprint("r", rng.IntN(6))))
		contents[typeURL]["bad"] = wrap(t, version, edsCluster("bad"))
	case TypeEndpoint:
		contents[typeURL][name] = wrap(t, version, assignment(name))
	case TypeListener:
		contents[typeURL][name] = wrap(t, version, listener(t, name, name))
	case TypeRoute:
		contents[typeURL][name] = wrap(t, version, route(name))
	}
}

// wanted is what a client should have: names by type.
func (s *modelServer) wanted() map[string][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]string{}
	shared := map[string]bool{}
	for _, r := range s.contents[TypeCluster] {
		m, err := r.GetResource().UnmarshalNew()
		if err != nil {
			s.t.Fatal(err)
		}
		for _, name := range references(m) {
			shared[name] = true
		}
	}
	for _, typeURL := range Types() {
		for name := range s.contents[typeURL] {
			_, listener := s.contents[TypeListener][name]
			if wildcard(typeURL) || typeURL == TypeEndpoint && shared[name] || typeURL == TypeRoute && listener {
				out[typeURL] = append(out[typeURL], name)
			}
		}
		slices.Sort(out[typeURL])
	}
	return out
}

func (r *recorder) versions() map[string][]string {
	out := map[string][]string{}
	for _, typeURL := range Types() {
		if names := r.names(typeURL); len(names) > 0 {
			out[typeURL] = names
		}
	}
	return out
}

func sameAs(r *recorder, want map[string][]string) bool {
	for _, typeURL := range Types() {
		if !slices.Equal(r.names(typeURL), want[typeURL]) {
			return false
		}
	}
	return true
}
