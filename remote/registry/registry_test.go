package registry

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
)

var env *testenv.Env

func TestMain(m *testing.M) {
	os.Exit(testenv.Shared(m, func(e *testenv.Env) { env = e }))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// remoteServer stands in for a remote API server where one has to misbehave: it
// answers the probe, or does whatever mode says.
type remoteServer struct {
	*httptest.Server
	uid  string
	mode atomic.Pointer[string]
	hits atomic.Int64
	open atomic.Int64 // connections
	end  chan struct{}
}

func newRemoteServer(t testing.TB, uid string) *remoteServer {
	t.Helper()
	s := &remoteServer{uid: uid, end: make(chan struct{})}
	s.set("good")
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.answer))
	s.EnableHTTP2 = true
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.open.Add(1)
		case http.StateClosed, http.StateHijacked:
			s.open.Add(-1)
		}
	}
	s.StartTLS()
	t.Cleanup(func() {
		close(s.end)
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *remoteServer) set(mode string) { s.mode.Store(&mode) }

func (s *remoteServer) answer(w http.ResponseWriter, r *http.Request) {
	s.hits.Add(1)
	list := fmt.Sprintf(`{"kind":"NamespaceList","items":[{"metadata":{"name":"kube-system","uid":%q}}]}`, s.uid)
	switch mode := *s.mode.Load(); mode {
	case "good":
		if r.URL.Path == "/version" {
			list = `{"gitVersion":"v1.36.3"}`
		}
		fmt.Fprint(w, list)
	case "401", "403", "410", "429", "500":
		var code int
		fmt.Sscan(mode, &code)
		w.WriteHeader(code)
	case "truncated":
		fmt.Fprint(w, list[:len(list)/2])
	case "redirect":
		http.Redirect(w, r, "https://169.254.169.254/", http.StatusFound)
	case "other":
		fmt.Fprint(w, `{"kind":"Surprise"}`)
	case "endless":
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	case "slow":
		s.slow(w, r)
	case "hang":
		select {
		case <-r.Context().Done():
		case <-s.end:
		}
	}
}

func (s *remoteServer) slow(w http.ResponseWriter, r *http.Request) {
	for {
		select {
		case <-r.Context().Done():
			return
		case <-s.end:
			return
		case <-time.After(100 * time.Millisecond):
			fmt.Fprint(w, " ")
			w.(http.Flusher).Flush()
		}
	}
}

func (s *remoteServer) secret(t testing.TB, name, cluster, token string) *corev1.Secret {
	t.Helper()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return secretFor(t, name, cluster, s.URL, ca, token)
}

func secretFor(t testing.TB, name, cluster, server string, ca []byte, token string) *corev1.Secret {
	t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos["c"] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts["c"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "c"}
	config.CurrentContext = "c"
	raw, err := clientcmd.Write(*config)
	must(t, err)
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{api.LabelRemoteCluster: cluster}},
		Data:       map[string][]byte{api.RemoteKubeconfigKey: raw, api.RemoteClusterKey: []byte(cluster)},
	}
}

// apply writes a secret over whatever is there.
func apply(t testing.TB, namespace string, s *corev1.Secret) {
	t.Helper()
	secrets := env.Client(t).CoreV1().Secrets(namespace)
	_, err := secrets.Update(t.Context(), s, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = secrets.Create(t.Context(), s, metav1.CreateOptions{})
	}
	must(t, err)
}

func remove(t testing.TB, namespace, name string) {
	t.Helper()
	must(t, env.Client(t).CoreV1().Secrets(namespace).Delete(t.Context(), name, metav1.DeleteOptions{}))
}

// recorder is the registry's caller in these tests: it remembers which reader
// is in use for each cluster.
type recorder struct {
	mu    sync.Mutex
	inUse map[string]*reader
	swaps map[string]int
	gone  map[string]int
}

// reader syncs as soon as it runs.
type reader struct {
	Cluster
	synced  chan struct{}
	running atomic.Bool
	fail    chan error
}

func (r *reader) Run(ctx context.Context) error {
	r.running.Store(true)
	defer r.running.Store(false)
	close(r.synced)
	select {
	case <-ctx.Done():
		return nil
	case err := <-r.fail:
		return err
	}
}

func (r *reader) Synced() <-chan struct{} { return r.synced }
func (r *reader) Trouble() string         { return "" }

func (c *recorder) open(cluster Cluster) Reader {
	return &reader{Cluster: cluster, synced: make(chan struct{}), fail: make(chan error)}
}

func (c *recorder) swap(cluster string, now Reader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inUse[cluster] = now.(*reader)
	c.swaps[cluster]++
}

func (c *recorder) remove(cluster string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.inUse, cluster)
	c.gone[cluster]++
}

func (c *recorder) current(cluster string) *reader {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inUse[cluster]
}

func (c *recorder) count(m map[string]int, cluster string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return m[cluster]
}

// running starts a registry on the secrets of a namespace of its own.
func running(t testing.TB) (*Registry, *recorder, string) {
	t.Helper()
	namespace := env.Namespace(t)
	rec := &recorder{inUse: map[string]*reader{}, swaps: map[string]int{}, gone: map[string]int{}}
	r, err := New(Options{
		Local: env.Config, Namespace: namespace, Cluster: "east", Open: rec.open, Swap: rec.swap, Remove: rec.remove,
		AllowServers: []string{"127.0.0.1"}, Grace: 200 * time.Millisecond,
		ProbeEvery: 300 * time.Millisecond, ReachableFor: 5 * time.Second,
	})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			t.Error("run did not end")
		}
	})
	return r, rec, namespace
}

// until waits for a condition; what names it.
func until(t testing.TB, r *Registry, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 60 s; statuses %+v, refusals %+v", what, r.Statuses(), r.Refusals())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func status(r *Registry, cluster string) Status {
	for _, s := range r.Statuses() {
		if s.Cluster == cluster {
			return s
		}
	}
	return Status{}
}

// A bad secret, then a good one: it works at once. Then a bad one: the status
// says why, and the cluster goes on being read. (faults 7)
func TestBadThenGoodThenBad(t *testing.T) {
	r, rec, namespace := running(t)
	west := newRemoteServer(t, "uid-west")
	bad := west.secret(t, "west", "west", "t")
	bad.Data[api.RemoteKubeconfigKey] = []byte("users: [{name: x, user: {exec: {command: sh}}}]")
	apply(t, namespace, bad)
	until(t, r, "refused", func() bool {
		return strings.Contains(status(r, "west").RefusedReason, "users[0].user.exec") && !status(r, "west").Accepted
	})
	apply(t, namespace, west.secret(t, "west", "west", "t"))
	until(t, r, "read", func() bool {
		s := status(r, "west")
		return s.Accepted && s.Reachable && s.Synced && s.ServerVersion == "v1.36.3"
	})
	apply(t, namespace, bad)
	until(t, r, "refused again", func() bool { return !status(r, "west").Accepted })
	if s := status(r, "west"); !s.Reachable || !s.Synced || !rec.current("west").running.Load() {
		t.Errorf("no longer read: %+v", s)
	}
}

// Each kind of bad answer makes that cluster unreachable, with a message, and
// no other; it comes back by itself with a fresh reader. (faults 1, 5)
func TestMisbehavingServers(t *testing.T) {
	r, rec, namespace := running(t)
	good := newRemoteServer(t, "uid-good")
	apply(t, namespace, good.secret(t, "good", "good", "t"))
	modes := []string{"401", "403", "410", "429", "500", "truncated", "redirect", "other", "endless", "slow", "hang"}
	servers := map[string]*remoteServer{}
	for _, mode := range modes {
		servers[mode] = newRemoteServer(t, "uid-"+mode)
		apply(t, namespace, servers[mode].secret(t, "m-"+mode, "m-"+mode, "t"))
	}
	for _, mode := range append([]string{"good"}, modes...) {
		name := "m-" + mode
		if mode == "good" {
			name = mode
		}
		until(t, r, name+" read", func() bool { return status(r, name).Synced })
	}
	for _, mode := range modes {
		servers[mode].set(mode)
	}
	for _, mode := range modes {
		until(t, r, mode+" unreachable", func() bool { s := status(r, "m-"+mode); return !s.Reachable && s.Message != "" })
		if rec.current("m-"+mode) == nil || rec.count(rec.gone, "m-"+mode) > 0 {
			t.Errorf("%s: what was read is gone", mode)
		}
	}
	if !status(r, "good").Reachable || rec.count(rec.swaps, "good") != 1 {
		t.Errorf("the good cluster suffers: %+v", status(r, "good"))
	}
	for _, mode := range modes {
		servers[mode].set("good")
	}
	for _, mode := range modes {
		until(t, r, mode+" recovered", func() bool { return status(r, "m-"+mode).Reachable && rec.count(rec.swaps, "m-"+mode) == 2 })
	}
}

// A server that takes connections and never answers, from the start, holds up
// nobody, and is named. (faults 1)
func TestBlackHole(t *testing.T) {
	r, _, namespace := running(t)
	hole, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer hole.Close()
	good := newRemoteServer(t, "uid-good")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good.Certificate().Raw})
	apply(t, namespace, secretFor(t, "hole", "hole", "https://"+hole.Addr().String(), ca, "t"))
	apply(t, namespace, good.secret(t, "good", "good", "t"))
	until(t, r, "good read", func() bool { return status(r, "good").Synced })
	until(t, r, "hole named", func() bool { return status(r, "hole").Message != "" })
	if s := status(r, "hole"); s.Reachable || s.Synced || !s.Accepted {
		t.Errorf("status %+v", s)
	}
}

// Rotated 100 times: always one reader in use, none left over, goroutines flat. (faults 6)
func TestRotation(t *testing.T) {
	r, rec, namespace := running(t)
	west := newRemoteServer(t, "uid-west")
	apply(t, namespace, west.secret(t, "west", "west", "t"))
	until(t, r, "read", func() bool { return rec.count(rec.swaps, "west") == 1 })
	before := 0
	for i := range 100 {
		old := rec.current("west")
		apply(t, namespace, west.secret(t, "west", "west", fmt.Sprint("t", i)))
		until(t, r, "rotated", func() bool { return rec.current("west") != old })
		if i == 9 {
			until(t, r, "settled", func() bool { return !old.running.Load() })
			before = runtime.NumGoroutine()
		}
	}
	until(t, r, "goroutines flat", func() bool { return runtime.NumGoroutine() <= before+10 })
	if rec.count(rec.gone, "west") > 0 {
		t.Error("the cluster was removed meanwhile")
	}
}

// Deleted while a probe is under way: no connection stays for its idle timeout. (faults 6)
func TestDeletionDuringProbe(t *testing.T) {
	r, rec, namespace := running(t)
	west := newRemoteServer(t, "uid-west")
	for i := range 10 {
		west.set("good")
		apply(t, namespace, west.secret(t, "west", "west", "t"))
		until(t, r, "read", func() bool { return status(r, "west").Synced })
		west.set("hang")
		hits := west.hits.Load()
		until(t, r, "a probe is under way", func() bool { return west.hits.Load() > hits })
		remove(t, namespace, "west")
		until(t, r, "gone", func() bool { return rec.count(rec.gone, "west") == i+1 })
		until(t, r, "every connection has ended", func() bool { return west.open.Load() == 0 })
	}
}

// Deleted: the cluster leaves after its grace. Deleted and made again at once:
// it never does. (faults 8)
func TestDeletion(t *testing.T) {
	r, rec, namespace := running(t)
	west := newRemoteServer(t, "uid-west")
	apply(t, namespace, west.secret(t, "west", "west", "t"))
	until(t, r, "read", func() bool { return status(r, "west").Synced })
	first := rec.current("west")
	remove(t, namespace, "west")
	apply(t, namespace, west.secret(t, "west", "west", "t"))
	remove(t, namespace, "west")
	until(t, r, "gone", func() bool { return rec.count(rec.gone, "west") == 1 && len(r.Statuses()) == 0 })
	if first.running.Load() {
		t.Error("the reader still runs")
	}
	apply(t, namespace, west.secret(t, "again", "west-2", "t"))
	until(t, r, "read under another name", func() bool { return status(r, "west-2").Synced })
}

// Two secrets for one cluster, two names for one cluster, ourselves, and
// secrets elsewhere. (faults 9, notes on section 1)
func TestIdentityClashes(t *testing.T) {
	r, rec, namespace := running(t)
	west := newRemoteServer(t, "uid-west")
	apply(t, namespace, west.secret(t, "a-west", "west", "t"))
	until(t, r, "read", func() bool { return status(r, "west").Synced })

	apply(t, namespace, west.secret(t, "b-west", "west", "t"))
	until(t, r, "second secret refused", func() bool {
		refusals := r.Refusals()
		return len(refusals) == 1 && refusals[0].Secret == "b-west" && strings.Contains(refusals[0].Reason, "a-west")
	})
	apply(t, namespace, west.secret(t, "north", "north", "t"))
	until(t, r, "second name refused", func() bool { return strings.Contains(status(r, "north").RefusedReason, `linked as "west"`) })

	self := secretFor(t, "self", "self", env.Config.Host, env.Config.CAData, env.Token(t, namespace, "reader", nil))
	apply(t, namespace, self)
	grant(t, namespace)
	until(t, r, "ourselves refused", func() bool { return strings.Contains(status(r, "self").RefusedReason, "this very cluster") })
	apply(t, namespace, secretFor(t, "own-name", "east", west.URL, env.Config.CAData, "t"))
	wrong := west.secret(t, "wrong", "south", "t")
	wrong.Data[api.RemoteClusterKey] = []byte("other")
	apply(t, namespace, wrong)
	until(t, r, "names refused", func() bool {
		return strings.Contains(status(r, "east").RefusedReason, "is this one") && strings.Contains(status(r, "south").RefusedReason, `"other"`)
	})
	elsewhere := env.Namespace(t)
	apply(t, elsewhere, west.secret(t, "elsewhere", "elsewhere", "t"))
	if rec.count(rec.swaps, "west") != 1 || status(r, "elsewhere").Cluster != "" {
		t.Errorf("statuses %+v", r.Statuses())
	}
}

// grant lets account reader list namespaces.
func grant(t *testing.T, namespace string) {
	t.Helper()
	client := env.Client(t).RbacV1()
	role, binding := readerRole(namespace)
	_, err := client.ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{})
	must(t, err)
	_, err = client.ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{})
	must(t, err)
	t.Cleanup(func() {
		_ = client.ClusterRoles().Delete(context.Background(), role.Name, metav1.DeleteOptions{})
		_ = client.ClusterRoleBindings().Delete(context.Background(), binding.Name, metav1.DeleteOptions{})
	})
}
