package watch

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
)

// wire is a connection between clusters that a test can cut: it forwards TCP,
// and while it is cut takes connections and passes nothing on, as a network
// that drops packets does.
type wire struct {
	listener net.Listener
	to       string
	cut      atomic.Bool
	wg       sync.WaitGroup
	mu       sync.Mutex
	open     []net.Conn
}

func newWire(t testing.TB, config *rest.Config) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w := &wire{listener: l, to: strings.TrimPrefix(config.Host, "https://")}
	w.wg.Go(w.accept)
	t.Cleanup(func() {
		l.Close()
		w.mu.Lock()
		for _, c := range w.open {
			c.Close()
		}
		w.mu.Unlock()
		w.wg.Wait()
	})
	return w
}

// config leads through the wire.
func (w *wire) config(c *rest.Config) *rest.Config {
	out := rest.CopyConfig(c)
	out.Host = "https://" + w.listener.Addr().String()
	return out
}

func (w *wire) accept() {
	for {
		in, err := w.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", w.to)
		if err != nil {
			in.Close()
			continue
		}
		w.mu.Lock()
		w.open = append(w.open, in, out)
		w.mu.Unlock()
		w.wg.Go(func() { w.copy(out, in) })
		w.wg.Go(func() { w.copy(in, out) })
	}
}

func (w *wire) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !w.cut.Load() {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

var reviews = federation.ServiceKey{Namespace: "shop", Name: "reviews"}

// endpoints counts reviews' ready endpoints in west.
func endpoints(s *federation.Snapshot) int {
	svc := s.Service(reviews)
	if svc == nil {
		return 0
	}
	n := 0
	for _, e := range svc.Endpoints {
		if e.Cluster == "west" && e.Health == federation.Ready {
			n++
		}
	}
	return n
}

// linked starts a watcher with west linked through a wire, and waits for its export.
func linked(t *testing.T, change func(*Options)) (r running, w *wire, eastClient, westClient client.Client, reader *rest.Config) {
	t.Helper()
	west := needWest(t)
	eastClient, westClient = prepare(t, east, "net-east"), prepare(t, west, "net-west")
	workload{"shop", "reviews", "10.20.0.5", true, true}.create(t, westClient)
	w, reader = newWire(t, west.Config), readerConfig(t, west)
	secret := remoteSecret(t, "west", w.config(reader))
	must(t, eastClient.Create(t.Context(), secret))
	t.Cleanup(func() { must(t, eastClient.Delete(context.Background(), secret)) })
	r = start(t, change)
	r.wait("export of west", func(s *federation.Snapshot) bool { return endpoints(s) == 1 })
	return r, w, eastClient, westClient, reader
}

// The remote's packets are dropped: its endpoints stay, Stale is said within
// 30 s with the time since when, and a bad object elsewhere changes nothing. When
// it is back, what changed meanwhile arrives. (faults 2, 3)
func TestBlackHoledRemoteKeepsItsEndpoints(t *testing.T) {
	var least atomic.Int64
	least.Store(1)
	counting := func(o *Options) {
		seen := false
		o.OnSnapshot = func(s *federation.Snapshot) {
			if n := endpoints(s); n == 1 {
				seen = true
			} else if seen {
				least.Store(int64(n))
			}
		}
	}
	r, w, _, westClient, _ := linked(t, counting)
	cutAt := time.Now()
	w.cut.Store(true)
	s := r.wait("west unreachable", func(s *federation.Snapshot) bool { return !s.Cluster("west").Reachable })
	if took := time.Since(cutAt); took > 30*time.Second {
		t.Errorf("said after %s", took)
	}
	if since := s.Cluster("west").Since; since.Before(cutAt.Add(-10*time.Second)) || since.After(time.Now()) {
		t.Errorf("since %s, cut at %s", since, cutAt)
	}
	if s.Service(reviews).Exports[0].StaleSince.IsZero() {
		t.Error("the export does not say since when it is stale")
	}
	workload{"shop", "ratings", "10.20.0.6", true, true}.create(t, westClient)
	w.cut.Store(false)
	back := time.Now()
	r.wait("what changed meanwhile", func(s *federation.Snapshot) bool {
		return s.Cluster("west").Reachable && s.Service(federation.ServiceKey{Namespace: "shop", Name: "ratings"}) != nil
	})
	t.Logf("back after %s", time.Since(back))
	if least.Load() != 1 {
		t.Errorf("a snapshot had %d endpoints", least.Load())
	}
}

// The remote secret is rotated 100 times: no snapshot loses the endpoint, none
// is made for nothing, and goroutines stay flat. (faults 6)
func TestRotationLosesNothing(t *testing.T) {
	var snapshots, fewer atomic.Int64
	seen := atomic.Bool{}
	r, w, eastClient, _, reader := linked(t, func(o *Options) {
		o.OnSnapshot = func(s *federation.Snapshot) {
			snapshots.Add(1)
			if n := endpoints(s); n == 1 {
				seen.Store(true)
			} else if seen.Load() {
				fewer.Add(1)
			}
		}
	})
	svc := r.Snapshot().Service(reviews)
	before, settled := snapshots.Load(), 0
	for i := range 100 {
		feed := r.currentFeeds()["west"]
		secret := remoteSecret(t, "west", w.config(reader))
		secret.Data[api.RemoteKubeconfigKey] = fmt.Appendf(secret.Data[api.RemoteKubeconfigKey], "# rotation %d\n", i)
		must(t, eastClient.Update(t.Context(), secret))
		r.waitFor("swapped", func() bool { return r.currentFeeds()["west"] != feed })
		if i == 20 {
			settled = runtime.NumGoroutine()
		}
	}
	r.waitFor("goroutines flat", func() bool { return runtime.NumGoroutine() <= settled+20 })
	if fewer.Load() > 0 {
		t.Errorf("%d snapshots without the endpoint", fewer.Load())
	}
	if r.Snapshot().Service(reviews) != svc {
		t.Error("the service was made anew, so it would be pushed")
	}
	t.Logf("%d snapshots during 100 rotations", snapshots.Load()-before)
}

func (r running) waitFor(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: not within 60 s; statuses %+v", what, r.Statuses())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// A control plane that starts while the remote cannot be reached takes its
// exports from the imported slices, and is not ready yet but says why. (faults 4)
func TestStartWithoutTheRemote(t *testing.T) {
	c := prepare(t, east, "net-east")
	hole, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { hole.Close() })
	config := rest.CopyConfig(east.Config)
	config.Host, config.BearerToken = "https://"+hole.Addr().String(), "t"
	secret := remoteSecret(t, "west", config)
	must(t, c.Create(t.Context(), secret))
	t.Cleanup(func() { must(t, c.Delete(context.Background(), secret)) })
	must(t, client.IgnoreAlreadyExists(c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})))
	cp := federation.Checkpoint{
		Network: "net-west", Gateways: []string{"192.0.2.7:15443"}, ExportedSince: time.Unix(1000, 0).UTC(),
		Ports: []federation.Port{{Name: "http", Number: 9080, Protocol: federation.ProtocolHTTP}}, Ready: []federation.CheckpointCount{{Port: 9080, Count: 3}},
	}
	text, err := cp.Encode()
	must(t, err)
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "imported", Annotations: map[string]string{api.AnnotationCheckpoint: text},
		Labels: map[string]string{mcsv1beta1.LabelServiceName: "reviews", mcsv1beta1.LabelSourceCluster: "west", discoveryv1.LabelManagedBy: api.ManagedBy},
	}, AddressType: discoveryv1.AddressTypeIPv4}
	must(t, c.Create(t.Context(), slice))
	t.Cleanup(func() { must(t, c.Delete(context.Background(), slice)) })

	r := start(t, nil)
	s := r.wait("the checkpoint", func(s *federation.Snapshot) bool { return s.Service(reviews) != nil })
	svc := s.Service(reviews)
	if len(svc.Counts) != 1 || svc.Counts[0].Ready != 3 || !svc.Exports[0].Checkpoint || svc.Exports[0].StaleSince.IsZero() {
		t.Errorf("service %+v", svc)
	}
	if w := s.Cluster("west"); w.Network != "net-west" || len(w.Gateways) != 1 || w.Read {
		t.Errorf("cluster %+v", w)
	}
	if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "west") {
		t.Errorf("ready: %v", err)
	}
}

// A cluster over its budget is shed with a reason; the others are served. (faults 10)
func TestBudget(t *testing.T) {
	west := needWest(t)
	e := prepare(t, east, "net-east")
	w := prepare(t, west, "net-west")
	for i := range 12 {
		workload{"shop", fmt.Sprint("s", i), fmt.Sprint("10.20.1.", i+1), true, true}.create(t, w)
	}
	secret := remoteSecret(t, "west", readerConfig(t, west))
	must(t, e.Create(t.Context(), secret))
	t.Cleanup(func() { must(t, e.Delete(context.Background(), secret)) })
	r := start(t, func(o *Options) { o.MaxObjects = 20 })
	r.waitFor("over budget", func() bool {
		st := r.Statuses()
		return len(st) == 1 && strings.Contains(st[0].Message+st[0].Trouble, "over budget")
	})
	if c := r.Snapshot().Cluster("west"); c != nil && c.Read {
		t.Errorf("west counts as read: %+v", c)
	}
	if r.Snapshot().Cluster("east") == nil {
		t.Error("east is not served")
	}
}
