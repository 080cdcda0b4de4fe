package xds

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// start runs a client against addr until the test ends or stop is called.
func start(t testing.TB, addr string, r *recorder, edit func(*Options)) (c *Client, stop func()) {
	t.Helper()
	opts := Options{Conn: dial(t, addr), Node: node(), Applier: r, Patience: deadline}
	if edit != nil {
		edit(&opts)
	}
	c, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return c, stop
}

func awaitReady(t testing.TB, c *Client) {
	t.Helper()
	select {
	case <-c.Ready():
	case <-time.After(deadline):
		t.Fatalf("not ready: %+v", c.Status())
	}
}

// fill brings one xds cluster, one listener and what they refer to.
func fill(t testing.TB, st *adsStream) {
	t.Helper()
	st.next(TypeCluster)
	st.next(TypeListener)
	st.acked(TypeCluster, "1", nil, edsCluster("a"), plainCluster("passthrough"))
	if got := st.next(TypeEndpoint).GetResourceNamesSubscribe(); !slices.Equal(got, []string{"a"}) {
		t.Fatalf("asked for load assignments %v", got)
	}
	st.acked(TypeEndpoint, "1", nil, assignment("a"))
	st.acked(TypeListener, "1", nil, listener(t, "a", "a"))
	if got := st.next(TypeRoute).GetResourceNamesSubscribe(); !slices.Equal(got, []string{"a"}) {
		t.Fatalf("asked for routes %v", got)
	}
	st.acked(TypeRoute, "1", nil, route("a"))
}

func TestClientReceivesAllTypes(t *testing.T) {
	s, r := startADS(t, "127.0.0.1:0"), newRecorder()
	c, _ := start(t, s.addr, r, nil)
	st := s.accept(t)
	first := st.next(TypeCluster)
	if first.GetNode().GetId() != node().GetId() || len(first.GetResourceNamesSubscribe()) != 0 {
		t.Fatalf("first request: %v", first)
	}
	if st.next(TypeListener).GetNode() != nil {
		t.Fatal("the node goes with the first request only")
	}
	st.acked(TypeCluster, "1", nil, edsCluster("a"))
	st.next(TypeEndpoint)
	st.acked(TypeListener, "1", nil, listener(t, "a", "a"))
	st.next(TypeRoute)
	select {
	case <-c.Ready():
		t.Fatal("ready before load assignments and routes came")
	default:
	}
	st.acked(TypeEndpoint, "1", nil, assignment("a"))
	st.acked(TypeRoute, "1", nil, route("a"))
	awaitReady(t, c)
	for _, typeURL := range Types() {
		r.await(t, typeURL, "a")
	}
	st.quiet()
	if s := c.Status(); !s.Connected || !s.Ready || s.Types[TypeRoute].Held != 1 {
		t.Errorf("status: %+v", s)
	}
}

// What is received half is not used: a listener waits for its routes, a changed
// one is stood in for by its last version.
func TestWarming(t *testing.T) {
	s, r := startADS(t, "127.0.0.1:0"), newRecorder()
	start(t, s.addr, r, nil)
	st := s.accept(t)
	fill(t, st)
	r.await(t, TypeListener, "a")
	changed := listener(t, "a", "b")
	changed.StatPrefix = "changed"
	st.acked(TypeListener, "2", nil, changed, listener(t, "new", "b"))
	req := st.next(TypeRoute)
	if !slices.Equal(req.GetResourceNamesSubscribe(), []string{"b"}) || !slices.Equal(req.GetResourceNamesUnsubscribe(), []string{"a"}) {
		t.Fatalf("subscription: %v", req)
	}
	r.await(t, TypeListener, "a")
	if r.state[TypeListener]["a"].(interface{ GetStatPrefix() string }).GetStatPrefix() != "" {
		t.Fatal("changed listener in use before its routes came")
	}
	st.acked(TypeRoute, "1", nil, route("b"))
	r.await(t, TypeListener, "a", "new")
}

func TestWarmingEnds(t *testing.T) {
	s, r := startADS(t, "127.0.0.1:0"), newRecorder()
	c, _ := start(t, s.addr, r, func(o *Options) { o.Patience = 50 * time.Millisecond })
	st := s.accept(t)
	st.next(TypeCluster)
	st.next(TypeListener)
	st.acked(TypeCluster, "1", nil, edsCluster("a"))
	st.next(TypeEndpoint)
	st.acked(TypeListener, "1", nil)
	awaitReady(t, c)
	r.await(t, TypeCluster, "a")
	if got := c.Status().Types[TypeEndpoint].Missing; !slices.Equal(got, []string{"a"}) {
		t.Errorf("missing: %v", got)
	}
}

// One bad resource is refused with its name; the good ones of the same response
// are applied, and the last good version of the bad one stays.
func TestOneBadResource(t *testing.T) {
	s, r := startADS(t, "127.0.0.1:0"), newRecorder()
	c, _ := start(t, s.addr, r, nil)
	st := s.accept(t)
	fill(t, st)
	r.refuse("a", "")
	msg := st.refused(TypeCluster, "2", nil, plainCluster("a"), plainCluster("b"), plainCluster("panic"))
	if !strings.Contains(msg, "a: field connect_timeout") || !strings.Contains(msg, "panic: panic while checking") || strings.Contains(msg, "b:") {
		t.Errorf("detail: %s", msg)
	}
	r.await(t, TypeCluster, "a", "b", "passthrough")
	refused := c.Status().Types[TypeCluster].Refused
	if len(refused) != 2 || refused[0].Name != "a" || refused[0].Version != "2" {
		t.Errorf("refused: %+v", refused)
	}
	st.quiet()
	st.closed <- status.Error(codes.Unavailable, "bye")
	st = s.accept(t)
	if got := st.next(TypeCluster).GetInitialResourceVersions(); !maps.Equal(got, map[string]string{"a": "1", "b": "2", "passthrough": "1"}) {
		t.Errorf("versions after reconnect: %v", got)
	}
	st.next(TypeEndpoint)
	st.next(TypeListener)
	st.next(TypeRoute)
	r.refuse("", "")
	st.acked(TypeCluster, "3", nil, edsCluster("a"))
	if refused := c.Status().Types[TypeCluster].Refused; len(refused) != 1 {
		t.Errorf("still refused: %+v", refused)
	}
}

func TestMalformedResources(t *testing.T) {
	good := wrap(t, "1", plainCluster("good"))
	for name, bad := range map[string]*discoveryv3.Resource{
		"no name":      {Version: "1", Resource: good.Resource},
		"wrong name":   {Name: "other", Version: "1", Resource: good.Resource},
		"wrong type":   {Name: "x", Version: "1", Resource: &anypb.Any{TypeUrl: TypeRoute}},
		"garbage":      {Name: "x", Version: "1", Resource: &anypb.Any{TypeUrl: TypeCluster, Value: []byte{0xff, 0xff}}},
		"nothing":      {Name: "x", Version: "1"},
		"invalid utf8": {Name: "x", Version: "1", Resource: &anypb.Any{TypeUrl: TypeCluster, Value: []byte{10, 1, 0xff}}},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := startADS(t, "127.0.0.1:0"), newRecorder()
			start(t, s.addr, r, nil)
			st := s.accept(t)
			st.next(TypeCluster)
			st.next(TypeListener)
			st.sendRaw(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: TypeCluster, Resources: []*discoveryv3.Resource{good, bad}})
			if st.next(TypeCluster).GetErrorDetail() == nil {
				t.Error("not refused")
			}
			r.await(t, TypeCluster, "good")
		})
	}
}

func TestNamedTwice(t *testing.T) {
	s, r := startADS(t, "127.0.0.1:0"), newRecorder()
	start(t, s.addr, r, nil)
	st := s.accept(t)
	st.next(TypeCluster)
	st.next(TypeListener)
	if msg := st.refused(TypeCluster, "1", nil, plainCluster("a"), plainCluster("a"), plainCluster("b")); msg != "a: named twice in one response" {
		t.Errorf("detail: %s", msg)
	}
	r.await(t, TypeCluster, "b")
}

// A type that was not asked for is refused, an assignment that was not is ignored.
func TestUnaskedFor(t *testing.T) {
	s, r := startADS(t, "127.0.0.1:0"), newRecorder()
	start(t, s.addr, r, nil)
	st := s.accept(t)
	fill(t, st)
	if msg := st.refused("type.googleapis.com/google.protobuf.Empty", "1", nil); !strings.Contains(msg, "not asked for") {
		t.Errorf("detail: %s", msg)
	}
	st.acked(TypeEndpoint, "1", []string{"other"}, assignment("z"))
	r.await(t, TypeEndpoint, "a")
}

// Where the whole does not fit together, the resource to blame is found.
func TestApplierRefusesState(t *testing.T) {
	s, r := startADS(t, "127.0.0.1:0"), newRecorder()
	start(t, s.addr, r, nil)
	st := s.accept(t)
	fill(t, st)
	r.refuse("", "c")
	msg := st.refused(TypeCluster, "2", []string{"passthrough"}, plainCluster("b"), plainCluster("c"), plainCluster("d"))
	if msg != "c: state does not fit together" {
		t.Errorf("detail: %s", msg)
	}
	r.await(t, TypeCluster, "a", "b", "d")
	st.quiet()
}

func TestRemovalUnsubscribes(t *testing.T) {
	s, r := startADS(t, "127.0.0.1:0"), newRecorder()
	start(t, s.addr, r, nil)
	st := s.accept(t)
	fill(t, st)
	st.acked(TypeListener, "2", []string{"a", "never-seen"})
	if got := st.next(TypeRoute).GetResourceNamesUnsubscribe(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("unsubscribed %v", got)
	}
	st.acked(TypeCluster, "2", []string{"a"})
	if got := st.next(TypeEndpoint).GetResourceNamesUnsubscribe(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("unsubscribed %v", got)
	}
	r.await(t, TypeListener)
	r.await(t, TypeCluster, "passthrough")
}

// Of two xds clusters that share a load assignment each may come and go: it is
// asked for once, waited for by none that comes later, and given up with the
// last.
func TestSharedAssignment(t *testing.T) {
	s, r := startADS(t, "127.0.0.1:0"), newRecorder()
	start(t, s.addr, r, nil)
	st := s.accept(t)
	st.next(TypeCluster)
	st.next(TypeListener)
	st.acked(TypeCluster, "1", nil, sharing("entry|20001", "a"), edsCluster("a"), sharing("entry|20002", "b"))
	if got := st.next(TypeEndpoint).GetResourceNamesSubscribe(); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"a", "b"}) {
		t.Fatalf("asked for load assignments %v", got)
	}
	st.acked(TypeEndpoint, "1", nil, assignment("a"))
	r.await(t, TypeCluster, "a", "entry|20001")
	st.acked(TypeEndpoint, "2", []string{"b"})
	r.await(t, TypeCluster, "a", "entry|20001", "entry|20002")
	st.acked(TypeCluster, "2", []string{"entry|20001"}, sharing("entry|20003", "a")) // the port changed
	st.acked(TypeCluster, "3", []string{"a"})
	st.quiet() // nothing to ask for, nothing to give up
	r.await(t, TypeCluster, "entry|20002", "entry|20003")
	r.await(t, TypeEndpoint, "a")
	st.acked(TypeCluster, "4", nil, sharing("entry|20003", "c")) // another service has the port
	req := st.next(TypeEndpoint)
	if !slices.Equal(req.GetResourceNamesSubscribe(), []string{"c"}) || !slices.Equal(req.GetResourceNamesUnsubscribe(), []string{"a"}) {
		t.Errorf("subscription: %v", req)
	}
	st.acked(TypeEndpoint, "3", nil, assignment("c"))
	r.await(t, TypeEndpoint, "c")
	st.acked(TypeCluster, "5", []string{"entry|20002", "entry|20003"})
	if got := st.next(TypeEndpoint).GetResourceNamesUnsubscribe(); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"b", "c"}) {
		t.Errorf("gave up %v", got)
	}
	r.await(t, TypeCluster)
	r.await(t, TypeEndpoint)
}

func TestReconnectKeepsState(t *testing.T) {
	s, r := startADS(t, "127.0.0.1:0"), newRecorder()
	c, _ := start(t, s.addr, r, nil)
	fill(t, s.accept(t))
	s.server.Stop()
	for c.Status().Connected {
		time.Sleep(time.Millisecond)
	}
	s = startADS(t, s.addr)
	st := s.accept(t)
	for _, typeURL := range Types() {
		req := st.next(typeURL)
		if req.GetInitialResourceVersions()["a"] != "1" {
			t.Errorf("%s: versions %v", short(typeURL), req.GetInitialResourceVersions())
		}
		if named := len(req.GetResourceNamesSubscribe()) == 1; named == wildcard(typeURL) {
			t.Errorf("%s: subscribed %v", short(typeURL), req.GetResourceNamesSubscribe())
		}
	}
	r.await(t, TypeListener, "a")
}

// A proxy that restarts while the control plane is down serves what it had, and
// tells the control plane when that comes back.
func TestLastGood(t *testing.T) {
	file := &File{Path: filepath.Join(t.TempDir(), "last-good"), Node: node().GetId()}
	withFile := func(o *Options) { o.LastGood = file }
	s, r := startADS(t, "127.0.0.1:0"), newRecorder()
	c, stop := start(t, s.addr, r, withFile)
	fill(t, s.accept(t))
	awaitReady(t, c)
	stop()
	s.server.Stop()

	r = newRecorder()
	c, _ = start(t, s.addr, r, withFile)
	awaitReady(t, c)
	for _, typeURL := range []string{TypeEndpoint, TypeListener, TypeRoute} {
		r.await(t, typeURL, "a")
	}
	if st := c.Status(); !st.LastGood || st.Connected {
		t.Errorf("status: %+v", st)
	}
	s = startADS(t, s.addr)
	st := s.accept(t)
	if got := st.next(TypeCluster).GetInitialResourceVersions(); len(got) != 2 {
		t.Errorf("versions: %v", got)
	}
	st.next(TypeEndpoint)
	st.next(TypeListener)
	st.next(TypeRoute)
	st.acked(TypeCluster, "2", []string{"passthrough"})
	r.await(t, TypeCluster, "a")
	if c.Status().LastGood {
		t.Error("still last good")
	}
}

// A control plane that accepts streams and says nothing is as good as none.
func TestLastGoodWhenServerIsSilent(t *testing.T) {
	file := &File{Path: filepath.Join(t.TempDir(), "last-good"), Node: node().GetId()}
	s, r := startADS(t, "127.0.0.1:0"), newRecorder()
	_, stop := start(t, s.addr, r, func(o *Options) { o.LastGood = file })
	fill(t, s.accept(t))
	r.await(t, TypeRoute, "a")
	stop()

	r = newRecorder()
	c, _ := start(t, s.addr, r, func(o *Options) { o.LastGood, o.Fallback = file, 20*time.Millisecond })
	s.accept(t)
	awaitReady(t, c)
	if got := s.accept(t).next(TypeCluster).GetInitialResourceVersions(); len(got) != 2 {
		t.Errorf("versions: %v", got)
	}
}
