package controllers_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
	"github.com/isthmus-mesh/isthmus/primary/controllers"
	"github.com/isthmus-mesh/isthmus/remote/registry"
)

var env *testenv.Env

func TestMain(m *testing.M) {
	os.Exit(testenv.Shared(m, func(e *testenv.Env) { env = e }))
}

// local returns the test's API server as the controllers see it.
func local(t *testing.T) *controllers.Local {
	t.Helper()
	return localWith(t, func(*rest.Config) {})
}

func localWith(t *testing.T, change func(*rest.Config)) *controllers.Local {
	t.Helper()
	env.InstallMCS(t)
	env.InstallIsthmus(t)
	env.EnsureNamespace(t, api.SystemNamespace)
	config := rest.CopyConfig(env.Config)
	change(config)
	l, err := controllers.NewLocal(config, api.SystemNamespace)
	if err != nil {
		t.Fatal(err)
	}
	run(t, l.Cache.Start)
	return l
}

// run runs f until the test ends, or stop is called.
func run(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20s: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

var discard = slog.New(slog.DiscardHandler)

func clusters(westRead bool) map[federation.ClusterName]*federation.Cluster {
	return map[federation.ClusterName]*federation.Cluster{
		"east": {Name: "east", Network: "net1", Local: true, Read: true, Reachable: true},
		"west": {Name: "west", Network: "net2", Read: westRead, Reachable: westRead, Gateways: []federation.Gateway{{Addr: netip.MustParseAddrPort("192.0.2.2:15443")}}},
	}
}

// exported is the snapshot in which both clusters export NAMESPACE/reviews.
func exported(ns string, westRead bool, change ...func(*federation.Service)) *federation.Snapshot {
	port := []federation.Port{{Name: "http", Number: 9080, Protocol: federation.ProtocolHTTP}}
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	svc := &federation.Service{
		Key: federation.ServiceKey{Namespace: ns, Name: "reviews"}, Ports: port,
		Exports: []federation.Export{{Cluster: "east", Since: since, Ports: port}, {Cluster: "west", Since: since, Ports: port, Checkpoint: !westRead}},
		Endpoints: []federation.Endpoint{{
			Cluster: "east", Network: "net1", Addr: netip.MustParseAddr("10.1.0.1"), Ports: []federation.EndpointPort{{Service: 9080, Target: 8080}},
		}},
	}
	for _, f := range change {
		f(svc)
	}
	return federation.NewSnapshot(federation.Parts{Clusters: clusters(westRead), Services: map[federation.ServiceKey]*federation.Service{svc.Key: svc}})
}

// both joins the services of two snapshots.
func both(a, b *federation.Snapshot) *federation.Snapshot {
	parts := federation.Parts{Clusters: clusters(true), Services: map[federation.ServiceKey]*federation.Service{}}
	for _, s := range []*federation.Snapshot{a, b} {
		for svc := range s.Services() {
			parts.Services[svc.Key] = svc
		}
	}
	return federation.NewSnapshot(parts)
}

func nothing(westRead bool) *federation.Snapshot {
	return federation.NewSnapshot(federation.Parts{Clusters: clusters(westRead)})
}

type importView struct {
	t   *testing.T
	l   *controllers.Local
	key client.ObjectKey
}

func (v importView) get() *mcsv1beta1.ServiceImport {
	var out mcsv1beta1.ServiceImport
	if err := v.l.Get(v.t.Context(), v.key, &out); err != nil {
		return nil
	}
	return &out
}

func (v importView) ready() bool {
	i := v.get()
	return i != nil && meta.IsStatusConditionTrue(i.Status.Conditions, "Ready")
}

func (v importView) derived() *corev1.Service {
	i := v.get()
	if i == nil {
		return nil
	}
	var out corev1.Service
	name := i.Annotations["multicluster.kubernetes.io/derived-service"]
	if err := v.l.Get(v.t.Context(), client.ObjectKey{Namespace: v.key.Namespace, Name: name}, &out); err != nil {
		return nil
	}
	return &out
}

func (v importView) slices() map[string]discoveryv1.EndpointSlice {
	var list discoveryv1.EndpointSliceList
	if err := v.l.List(v.t.Context(), &list, client.InNamespace(v.key.Namespace)); err != nil {
		v.t.Fatal(err)
	}
	out := map[string]discoveryv1.EndpointSlice{}
	for _, s := range list.Items {
		out[s.Labels["multicluster.kubernetes.io/source-cluster"]] = s
	}
	return out
}

func TestImportLife(t *testing.T) {
	l := local(t)
	ns := env.Namespace(t)
	view := importView{t, l, client.ObjectKey{Namespace: ns, Name: "reviews"}}
	imports := controllers.NewImports(l, controllers.ImportOptions{Cluster: "east", Log: discard})
	imports.Update(exported(ns, true))
	stop := run(t, imports.Run)

	eventually(t, "the import is ready with both clusters", func() bool { return view.ready() && len(view.get().Status.Clusters) == 2 })
	made, derived := view.get(), view.derived()
	if derived == nil || len(made.Spec.IPs) != 1 || derived.Spec.ClusterIP != made.Spec.IPs[0] || len(derived.Spec.Selector) != 0 {
		t.Fatalf("derived service %+v of import %+v", derived, made)
	}
	slices := view.slices()
	east, west := slices["east"], slices["west"]
	if len(east.Endpoints) != 1 || *east.Ports[0].Port != 8080 || *east.Ports[0].Name != "http" || east.Labels[discoveryv1.LabelServiceName] != derived.Name {
		t.Errorf("east's slice %+v", east)
	}
	if len(west.Endpoints) != 0 || !strings.Contains(west.Annotations[api.AnnotationCheckpoint], "192.0.2.2:15443") {
		t.Errorf("west's slice %+v", west)
	}
	if len(east.OwnerReferences) != 1 || east.OwnerReferences[0].UID != made.UID || len(derived.OwnerReferences) != 1 {
		t.Errorf("owners %+v, %+v", east.OwnerReferences, derived.OwnerReferences)
	}

	t.Run("the same again writes nothing", func(t *testing.T) {
		before := map[string]string{"import": made.ResourceVersion, "derived": derived.ResourceVersion, "east": east.ResourceVersion, "west": west.ResourceVersion}
		marker := env.Namespace(t)                                       // made after, so it shows that the rest was looked at
		imports.Update(both(exported(ns, true), exported(marker, true))) // other pointers, the same content
		markerView := importView{t, l, client.ObjectKey{Namespace: marker, Name: "reviews"}}
		eventually(t, "the marker is ready", markerView.ready)
		eventually(t, "the marker's slices are there", func() bool { return len(markerView.slices()) == 2 })
		after := map[string]string{"import": view.get().ResourceVersion, "derived": view.derived().ResourceVersion, "east": view.slices()["east"].ResourceVersion, "west": view.slices()["west"].ResourceVersion}
		for k, v := range before {
			if after[k] != v {
				t.Errorf("%s was written: %s, %s", k, v, after[k])
			}
		}
	})

	t.Run("what somebody breaks is mended", func(t *testing.T) {
		ip := view.get().Spec.IPs[0]
		if err := l.Delete(t.Context(), view.derived()); err != nil {
			t.Fatal(err)
		}
		changed := view.get()
		changed.Spec.Type = mcsv1beta1.Headless
		if err := l.Update(t.Context(), changed); err != nil {
			t.Fatal(err)
		}
		s := view.slices()["east"]
		s.Endpoints = nil
		if err := l.Update(t.Context(), &s); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all is as before, the address too", func() bool {
			d, i := view.derived(), view.get()
			return d != nil && d.UID != derived.UID && d.Spec.ClusterIP == ip && i.Spec.Type == mcsv1beta1.ClusterSetIP && len(view.slices()["east"].Endpoints) == 1
		})
	})

	t.Run("a restart while west cannot be read keeps its slice", func(t *testing.T) {
		stop()
		before := view.slices()["west"]
		again := controllers.NewImports(l, controllers.ImportOptions{Cluster: "east", Log: discard})
		again.Update(nothing(false)) // not even its checkpoint could be read
		stop := run(t, again.Run)
		again.Update(exported(ns, false))
		// east's part of the import changes, so the import was looked at.
		again.Update(exported(ns, false, func(s *federation.Service) { s.Endpoints[0].Addr = netip.MustParseAddr("10.1.0.2") }))
		eventually(t, "east's slice has the new address", func() bool {
			e := view.slices()["east"].Endpoints
			return len(e) == 1 && e[0].Addresses[0] == "10.1.0.2"
		})
		if after := view.slices()["west"]; after.UID != before.UID || after.ResourceVersion != before.ResourceVersion {
			t.Errorf("west's slice was touched")
		}
		if n := len(view.get().Status.Clusters); n != 2 {
			t.Errorf("%d clusters in the status", n)
		}
		again.Update(exported(ns, true, func(s *federation.Service) { s.Headless = true }))
		eventually(t, "headless", func() bool {
			d := view.derived()
			return d != nil && d.Spec.ClusterIP == "None" && view.get().Spec.Type == mcsv1beta1.Headless && len(view.get().Spec.IPs) == 0
		})
		again.Update(nothing(false))
		again.Update(nothing(true))
		eventually(t, "everything is gone", func() bool { return view.get() == nil && len(view.slices()) == 0 })
		stop()
	})
}

// The import appears when its namespace does.
func TestImportNamespaceLater(t *testing.T) {
	l := local(t)
	ns := env.Namespace(t) + "-later"
	imports := controllers.NewImports(l, controllers.ImportOptions{Cluster: "east", Log: discard})
	imports.Update(exported(ns, true))
	run(t, imports.Run)
	if err := l.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}); err != nil {
		t.Fatal(err)
	}
	view := importView{t, l, client.ObjectKey{Namespace: ns, Name: "reviews"}}
	eventually(t, "the import is ready", view.ready)
}

func TestExportConditions(t *testing.T) {
	l := local(t)
	ns := env.Namespace(t)
	key := client.ObjectKey{Namespace: ns, Name: "reviews"}
	if err := l.Create(t.Context(), &mcsv1beta1.ServiceExport{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "reviews"}}); err != nil {
		t.Fatal(err)
	}
	problem := func(cluster, reason, message string) federation.Problem {
		return federation.Problem{Object: federation.ObjectRef{Cluster: federation.ClusterName(cluster), Kind: "ServiceExport", Namespace: ns, Name: "reviews"}, Reason: reason, Message: message}
	}
	with := func(s *federation.Snapshot, problems ...federation.Problem) *federation.Snapshot {
		parts := federation.Parts{Clusters: clusters(true), Services: map[federation.ServiceKey]*federation.Service{}, Problems: problems}
		for svc := range s.Services() {
			parts.Services[svc.Key] = svc
		}
		return federation.NewSnapshot(parts)
	}
	exports := controllers.NewExports(l, "east", discard)
	exports.Update(nothing(true))
	run(t, exports.Run)
	is := func(kind string, status metav1.ConditionStatus, reason, message string) func() bool {
		return func() bool {
			var e mcsv1beta1.ServiceExport
			if err := l.Get(t.Context(), key, &e); err != nil {
				t.Fatal(err)
			}
			c := meta.FindStatusCondition(e.Status.Conditions, kind)
			return c != nil && c.Status == status && c.Reason == reason && strings.Contains(c.Message, message)
		}
	}
	eventually(t, "pending", is("Ready", metav1.ConditionUnknown, "Pending", ""))
	exports.Update(with(nothing(true), problem("east", "NoService", "there is no Service of that name")))
	eventually(t, "no service", is("Valid", metav1.ConditionFalse, "NoService", "no Service"))
	eventually(t, "failed", is("Ready", metav1.ConditionFalse, "Failed", "no Service"))
	known := exported(ns, true)
	exports.Update(with(known, problem("east", "PortConflict", "ports differ"), problem("east", "TypeConflict", "types differ"), problem("west", "NoService", "not ours")))
	eventually(t, "conflict", is("Conflict", metav1.ConditionTrue, "PortConflict,TypeConflict", "ports differ; types differ"))
	eventually(t, "valid", is("Valid", metav1.ConditionTrue, "Valid", ""))
	exports.Update(with(known, problem("east", "AddressClaimed", "1 endpoints refused: 10.1.0.7 is west's")))
	eventually(t, "no conflict", is("Conflict", metav1.ConditionFalse, "NoConflicts", ""))
	eventually(t, "ready with a note", is("Ready", metav1.ConditionTrue, "Exported", "1 endpoints refused"))
	eventually(t, "the claimed address is a condition", is("isthmus.dev/AddressClaimed", metav1.ConditionTrue, "AddressClaimed", "10.1.0.7 is west's"))
	exports.Update(with(known))
	eventually(t, "which goes with it", func() bool {
		var e mcsv1beta1.ServiceExport
		return l.Get(t.Context(), key, &e) == nil && meta.FindStatusCondition(e.Status.Conditions, "isthmus.dev/AddressClaimed") == nil
	})
}

func TestBundles(t *testing.T) {
	l := local(t)
	ns := env.Namespace(t)
	var mu sync.Mutex
	current := "one"
	bundles := controllers.NewBundles(l, func() []byte {
		mu.Lock()
		defer mu.Unlock()
		return []byte(current)
	}, discard)
	run(t, bundles.Run)
	has := func(ns, want string) func() bool {
		return func() bool {
			var c corev1.ConfigMap
			return l.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: api.BundleConfigMapName}, &c) == nil && c.Data[api.BundleKey] == want
		}
	}
	eventually(t, "a namespace that was there", has(ns, "one"))
	later := env.Namespace(t)
	eventually(t, "a namespace that came", has(later, "one"))
	forged := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: api.BundleConfigMapName}, Data: map[string]string{api.BundleKey: "forged"}}
	if err := l.Update(t.Context(), forged); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a changed one is mended", has(ns, "one"))
	mu.Lock()
	current = "two"
	mu.Unlock()
	eventually(t, "a rotated bundle reaches all", func() bool { return has(ns, "two")() && has(later, "two")() })
}

// remotes says what a registry would.
type remotes struct {
	mu       sync.Mutex
	statuses []registry.Status
}

func (r *remotes) Statuses() []registry.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]registry.Status(nil), r.statuses...)
}
func (*remotes) Refusals() []registry.Refusal { return nil }
func (r *remotes) set(statuses ...registry.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.statuses = statuses
}

func TestLinks(t *testing.T) {
	l := local(t)
	key := client.ObjectKey{Namespace: api.SystemNamespace, Name: "west"}
	t.Cleanup(func() {
		_ = l.Delete(context.Background(), &v1alpha1.ClusterLink{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}})
	})
	up := registry.Status{Cluster: "west", Secret: "isthmus-remote-west", Server: "https://192.0.2.9:6443", Accepted: true, Reachable: true, LastReachable: time.Now(), Synced: true, ServerVersion: "v1.36.3"}
	r := &remotes{statuses: []registry.Status{up}}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: api.SystemNamespace, Name: up.Secret}}
	if err := l.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Delete(context.Background(), secret) })
	links := controllers.NewLinks(l, api.SystemNamespace, "east", r, nil, discard)
	snapshot := federation.NewSnapshot(federation.Parts{Clusters: map[federation.ClusterName]*federation.Cluster{
		"east": {Name: "east", Network: "net1", Local: true, Read: true, Reachable: true},
		"west": {Name: "west", Network: "net1", Read: true, Reachable: true},
	}})
	links.Update(snapshot)
	run(t, links.Run)
	get := func() (out v1alpha1.ClusterLink) {
		_ = l.Get(t.Context(), key, &out)
		return out
	}
	eventually(t, "a link that nobody wrote is made, and connected", func() bool { return get().Status.State == v1alpha1.LinkConnected })
	first := get()
	if first.Spec.SecretName != up.Secret || first.Status.ServerVersion != "v1.36.3" || first.Status.Since == nil {
		t.Errorf("link %+v", first)
	}
	links.Update(snapshot)
	down := up
	down.Reachable, down.Message = false, "connection refused"
	r.set(down)
	eventually(t, "stale", func() bool { return get().Status.State == v1alpha1.LinkStale })
	stale := get()
	if !strings.Contains(stale.Status.Message, "connection refused") || stale.Status.LastReachable.IsZero() || stale.Status.Since.Before(first.Status.Since) {
		t.Errorf("link %+v", stale.Status)
	}
	r.set(up)
	eventually(t, "connected again", func() bool { return get().Status.State == v1alpha1.LinkConnected })
	// Since the first status there were two changes, and quiet looks wrote nothing.
	for range 5 {
		links.Update(snapshot)
	}
	quiet := get().ResourceVersion
	marker := &v1alpha1.ClusterLink{ObjectMeta: metav1.ObjectMeta{Namespace: api.SystemNamespace, Name: "marker"}, Spec: v1alpha1.ClusterLinkSpec{Cluster: "marker"}}
	if err := l.Create(t.Context(), marker); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Delete(context.Background(), marker) })
	eventually(t, "a later look", func() bool {
		return l.Get(t.Context(), client.ObjectKeyFromObject(marker), marker) == nil && marker.Status.State == v1alpha1.LinkPending
	})
	if now := get().ResourceVersion; now != quiet {
		t.Errorf("a quiet link was written: %s, %s", quiet, now)
	}
	r.set()
	eventually(t, "the link that was made for the secret goes with it", func() bool { return get().Name == "" })
	if err := l.Get(t.Context(), client.ObjectKeyFromObject(marker), marker); err != nil {
		t.Errorf("the link that somebody wrote is gone: %v", err)
	}
}

// What is wrong with an object without conditions is told by an event on it,
// once for each new problem.
func TestProblems(t *testing.T) {
	l := local(t)
	ns := env.Namespace(t)
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	if err := l.Create(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	problem := func(cluster, name, reason string) federation.Problem {
		return federation.Problem{Object: federation.ObjectRef{Cluster: federation.ClusterName(cluster), Kind: "Service", Namespace: ns, Name: name}, Reason: reason, Message: strings.Repeat("long ", 400)}
	}
	problems := controllers.NewProblems(l, "east", discard)
	with := func(p ...federation.Problem) *federation.Snapshot {
		return federation.NewSnapshot(federation.Parts{Clusters: clusters(true), Problems: p})
	}
	problems.Update(with(problem("east", "web", "InvalidName"), problem("west", "web", "NotOurs"), problem("east", "absent", "InvalidName")))
	run(t, problems.Run)
	events := func() map[string]corev1.Event {
		var list corev1.EventList
		if err := l.Direct.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
			t.Fatal(err)
		}
		out := map[string]corev1.Event{}
		for _, e := range list.Items {
			out[e.Reason] = e
		}
		return out
	}
	eventually(t, "the event is there", func() bool { return len(events()) == 1 })
	if e := events()["InvalidName"]; e.InvolvedObject.UID != service.UID || e.Type != corev1.EventTypeWarning {
		t.Errorf("event %+v", e)
	}
	problems.Update(with(problem("east", "web", "InvalidName"), problem("east", "web", "Another")))
	eventually(t, "a new one is told", func() bool { return len(events()) == 2 })
}
