package controllers_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/controllers"
	"github.com/isthmus-mesh/isthmus/trust"
)

// writes notes what a client writes.
type writes struct {
	mu    sync.Mutex
	paths []string
}

func (w *writes) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodGet {
			w.mu.Lock()
			w.paths = append(w.paths, r.Method+" "+r.URL.Path)
			w.mu.Unlock()
		}
		return next.RoundTrip(r)
	})
}

// in returns what was written in a namespace, and forgets it.
func (w *writes) in(ns string) (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paths = slices.DeleteFunc(w.paths, func(p string) bool {
		if strings.Contains(p, "/namespaces/"+ns+"/") {
			out = append(out, p)
			return true
		}
		return false
	})
	return out
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// counted is local, whose writes are counted.
func counted(t *testing.T) (*controllers.Local, *writes) {
	t.Helper()
	var w writes
	return localWith(t, func(c *rest.Config) { c.Wrap(w.wrap) }), &w
}

func account(t *testing.T) trust.ID {
	t.Helper()
	domain, err := trust.ParseDomain("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	id, err := trust.NewID(domain, "shop", "reviews")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// world is what a snapshot is made of, step by step.
type world struct {
	t        *testing.T
	clusters map[federation.ClusterName]*federation.Cluster
	services map[federation.ServiceKey]*federation.Service
}

func newWorld(t *testing.T, entries ...string) *world {
	m := &world{t, clusters(true), map[federation.ServiceKey]*federation.Service{}}
	for _, e := range entries {
		m.clusters["east"].Entries = append(m.clusters["east"].Entries, netip.MustParseAddr(e))
	}
	return m
}

// exports has west export NAMESPACE/NAME with that many ready pods.
func (m *world) exports(ns, name string, pods int, change ...func(*federation.Service)) {
	port := []federation.Port{{Name: "http", Number: 9080, Protocol: federation.ProtocolHTTP}}
	svc := &federation.Service{
		Key: federation.ServiceKey{Namespace: ns, Name: name}, Ports: port,
		Exports: []federation.Export{{Cluster: "west", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Ports: port, Numbers: []uint16{9080}}},
	}
	for i := range pods {
		svc.Endpoints = append(svc.Endpoints, federation.Endpoint{
			Cluster: "west", Network: "net2", Addr: netip.AddrFrom4([4]byte{10, 1, 0, byte(i + 1)}), Pod: fmt.Sprintf("%s-%d", name, i), Tunnel: federation.TunnelMTLS, Account: account(m.t),
			Ports: []federation.EndpointPort{{Service: 9080, Target: 8080}},
		})
	}
	for _, f := range change {
		f(svc)
	}
	m.services[svc.Key] = svc
}

func (m *world) snapshot() *federation.Snapshot {
	parts := federation.Parts{Clusters: map[federation.ClusterName]*federation.Cluster{}, Services: map[federation.ServiceKey]*federation.Service{}}
	for k, v := range m.clusters {
		parts.Clusters[k] = v
	}
	for k, v := range m.services {
		parts.Services[k] = v
	}
	return federation.NewSnapshot(parts)
}

// told fills in, as ingest does, what the slices say.
func told(all map[string]discoveryv1.EndpointSlice) func(*federation.Service) {
	return func(svc *federation.Service) {
		var port, entry uint16
		if _, err := fmt.Sscanf(all["west"].Annotations[api.AnnotationEntryPorts], "%d=%d", &port, &entry); err == nil {
			svc.EntryPorts = []federation.EntryPort{{Cluster: "east", Service: port, Port: entry}}
		}
		for _, e := range all["west"].Endpoints {
			if e.TargetRef != nil {
				svc.Synthetic = append(svc.Synthetic, federation.Synthetic{In: "east", Of: "west", Pod: e.TargetRef.Name, Addr: netip.MustParseAddr(e.Addresses[0])})
			}
		}
	}
}

func options() controllers.ImportOptions {
	return controllers.ImportOptions{
		Cluster: "east", EntryPorts: api.PortRange{First: 20000, Last: 29999}, Synthetic: netip.MustParsePrefix("240.241.0.0/16"), Log: discard,
	}
}

// ready counts ready endpoints.
func ready(s discoveryv1.EndpointSlice) (n int) {
	for _, e := range s.Endpoints {
		if *e.Conditions.Ready {
			n++
		}
	}
	return n
}

// The life of an entry port: allotted before there is a gateway, called only when
// the gateway knows it, kept through all, and one write for one change.
func TestEntryPortLife(t *testing.T) {
	l, w := counted(t)
	ns := env.Namespace(t)
	view := importView{t, l, client.ObjectKey{Namespace: ns, Name: "reviews"}}
	imports := controllers.NewImports(l, options())
	m := newWorld(t)
	m.exports(ns, "reviews", 1)
	imports.Update(m.snapshot())
	run(t, imports.Run)

	eventually(t, "ready, with a word on the entry gateway", func() bool {
		if !view.ready() {
			return false
		}
		c := meta.FindStatusCondition(view.get().Status.Conditions, "Ready")
		return strings.Contains(c.Message, "until an entry gateway is ready") && c.Reason == "Ready"
	})
	port := func() string { return view.slices()["west"].Annotations[api.AnnotationEntryPorts] }
	first := port()
	if !strings.HasPrefix(first, "9080=2") || len(view.slices()["west"].Endpoints) != 0 {
		t.Fatalf("slice %+v", view.slices()["west"])
	}
	gateway := newWorld(t, "10.1.9.1", "10.1.9.2")
	gateway.exports(ns, "reviews", 1)
	imports.Update(gateway.snapshot())
	eventually(t, "the gateway's addresses, not ready", func() bool { s := view.slices()["west"]; return len(s.Endpoints) == 2 && ready(s) == 0 })
	eventually(t, "no word any more", func() bool { return meta.FindStatusCondition(view.get().Status.Conditions, "Ready").Message == "" })
	gateway.exports(ns, "reviews", 1, told(view.slices()))
	imports.Update(gateway.snapshot())
	eventually(t, "ready", func() bool { return ready(view.slices()["west"]) == 2 })

	for pods := 2; pods < 6; pods++ {
		settled(t, l, imports, gateway)
		w.in(ns)
		before := view.slices()["west"].ResourceVersion
		gateway.exports(ns, "reviews", pods, told(view.slices()))
		imports.Update(gateway.snapshot())
		eventually(t, "the slice tells of one pod more", func() bool { return view.slices()["west"].ResourceVersion != before })
		settled(t, l, imports, gateway)
		if cost := w.in(ns); len(cost) != 1 || !strings.Contains(cost[0], "/endpointslices/") {
			t.Errorf("one pod more cost %v", cost)
		}
	}
	if now := port(); now != first {
		t.Errorf("the port was %s and is %s", first, now)
	}
}

var marker atomic.Int64

// settled returns when all that was to be written before has been: a new import,
// which comes after it, is there.
func settled(t *testing.T, l *controllers.Local, imports *controllers.Imports, m *world) {
	t.Helper()
	ns := env.Namespace(t)
	name := fmt.Sprintf("zz-marker-%d", marker.Add(1))
	m.exports(ns, name, 0)
	imports.Update(m.snapshot())
	view := importView{t, l, client.ObjectKey{Namespace: ns, Name: name}}
	eventually(t, "the marker", view.ready)
}

// holders watches which import has which number, for as long as a test runs.
type holders struct {
	mu       sync.Mutex
	now      map[string]map[string]string // by slice: key by number
	ever     map[string]string            // number to the only key that it may have
	quarrels []string
	events   int
}

func (h *holders) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.events
}

func watchHolders(t *testing.T, l *controllers.Local) *holders {
	t.Helper()
	h := &holders{now: map[string]map[string]string{}, ever: map[string]string{}}
	informer, err := l.Cache.GetInformer(t.Context(), &discoveryv1.EndpointSlice{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = informer.AddEventHandler(handler(h.see))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

type handler func(*discoveryv1.EndpointSlice)

func (h handler) OnAdd(o any, _ bool) { h(o.(*discoveryv1.EndpointSlice)) }
func (h handler) OnUpdate(_, o any)   { h(o.(*discoveryv1.EndpointSlice)) }
func (h handler) OnDelete(any)        { h(&discoveryv1.EndpointSlice{}) }

func (h *holders) see(s *discoveryv1.EndpointSlice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events++
	key := s.Namespace + "/" + s.Labels["multicluster.kubernetes.io/service-name"]
	note := func(number, key string) {
		if had, ok := h.ever[number]; ok && had != key {
			h.quarrels = append(h.quarrels, fmt.Sprintf("%s was %s's and is %s's", number, had, key))
		}
		h.ever[number] = key
	}
	for pair := range strings.SplitSeq(s.Annotations[api.AnnotationEntryPorts], ",") {
		if port, number, ok := strings.Cut(pair, "="); ok {
			note(number, key+"/"+port)
		}
	}
	for _, e := range s.Endpoints {
		if e.TargetRef != nil {
			note(e.Addresses[0], key+"/"+e.TargetRef.Name)
		}
	}
}

// Two replicas take turns while exports come and go: no number ever has two
// meanings, and whoever comes back has his old one.
func TestTermsAgree(t *testing.T) {
	a, b := local(t), local(t)
	h := watchHolders(t, a)
	ns := env.Namespace(t)
	opts := options()
	opts.EntryPorts = api.PortRange{First: 31000, Last: 31039}
	opts.Synthetic = netip.MustParsePrefix("240.250.0.0/25")
	dice := rand.New(rand.NewPCG(1, 2))
	exported := map[string]bool{}
	change := func() *federation.Snapshot {
		for range 6 {
			name := fmt.Sprintf("svc-%d", dice.IntN(20))
			exported[name] = !exported[name]
		}
		m := newWorld(t, "10.1.9.1")
		for name, yes := range exported {
			if yes {
				m.exports(ns, name, 1+dice.IntN(3), func(s *federation.Service) { s.Headless = strings.HasSuffix(name, "3") })
			}
		}
		return m.snapshot()
	}
	var last *federation.Snapshot
	for turn := range 8 {
		l := []*controllers.Local{a, b}[turn%2]
		imports := controllers.NewImports(l, opts)
		imports.Update(change())
		stop := run(t, imports.Run)
		for range 5 {
			before, some := h.count(), 1+dice.IntN(3)
			last = change()
			imports.Update(last)
			eventually(t, "some of it is made", func() bool { return h.count() >= before+some }) // the term ends in the middle
		}
		stop()
	}
	imports := controllers.NewImports(b, opts)
	imports.Update(last)
	run(t, imports.Run)
	eventually(t, "what is exported is imported, and nothing else", func() bool {
		var list discoveryv1.EndpointSliceList
		if err := b.Direct.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
			t.Fatal(err)
		}
		have := map[string]bool{}
		for _, s := range list.Items {
			have[s.Labels["multicluster.kubernetes.io/service-name"]] = true
		}
		n := 0
		for name, yes := range exported {
			if yes {
				n++
			}
			if yes != have[name] {
				return false
			}
		}
		return len(have) == n
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ever) < 20 || len(h.quarrels) > 0 {
		t.Errorf("%d numbers seen; %v", len(h.ever), h.quarrels)
	}
	var noted corev1.ConfigMap
	if err := b.Direct.Get(t.Context(), client.ObjectKey{Namespace: api.SystemNamespace, Name: api.EntryRetiredName}, &noted); err != nil || !strings.Contains(noted.Data["entry-ports"], ns+"/svc-") {
		t.Errorf("what rests: %v, %v", noted.Data, err)
	}
}

// A new term does not believe its cache: what the API server says is given.
func TestTermReadsLive(t *testing.T) {
	l := local(t)
	ns := env.Namespace(t)
	opts := options()
	opts.EntryPorts = api.PortRange{First: 32000, Last: 32000} // there is one
	held := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ns, Name: "held", Annotations: map[string]string{api.AnnotationEntryPorts: "80=32000"},
			Labels: map[string]string{discoveryv1.LabelManagedBy: api.ManagedBy, "multicluster.kubernetes.io/service-name": "held", "multicluster.kubernetes.io/source-cluster": "north"},
		},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{},
	}
	if err := l.Direct.(client.Client).Create(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	m := newWorld(t)
	m.clusters["north"] = &federation.Cluster{Name: "north", Network: "net3"} // not read: its slice stays
	m.exports(ns, "reviews", 1)
	imports := controllers.NewImports(l, opts)
	imports.Update(m.snapshot())
	run(t, imports.Run)
	view := importView{t, l, client.ObjectKey{Namespace: ns, Name: "reviews"}}
	eventually(t, "the import says that no port is left", func() bool {
		i := view.get()
		return i != nil && view.ready() && meta.IsStatusConditionTrue(i.Status.Conditions, "isthmus.dev/EntryPortsExhausted") &&
			strings.Contains(meta.FindStatusCondition(i.Status.Conditions, "Ready").Message, "32000-32000")
	})
	if s := view.slices()["west"]; s.Annotations[api.AnnotationEntryPorts] != "" {
		t.Errorf("port %s is given twice", s.Annotations[api.AnnotationEntryPorts])
	}
}
