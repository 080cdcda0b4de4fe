package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/dataplane/intercept/netnstest"
)

const deadline = 30 * time.Second

// TestMain makes the test binary the program itself where a test starts it so.
func TestMain(m *testing.M) {
	switch os.Getenv("ISTHMUS_PROXY_TEST") {
	case "main":
		main()
		return
	case "weak":
		fmt.Fprintln(os.Stderr, weak())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// A process is one run of the program in a namespace.
type process struct {
	t   testing.TB
	at  *netnstest.Namespace
	cmd *exec.Cmd
	log *buffer
	end chan struct{} // closed when it has ended
}

func start(t testing.TB, at *netnstest.Namespace, args ...string) *process {
	t.Helper()
	return startAs(t, "main", at, args...)
}

// startWeak is start without any capability.
func startWeak(t testing.TB, at *netnstest.Namespace, args ...string) *process {
	t.Helper()
	return startAs(t, "weak", at, args...)
}

func startAs(t testing.TB, as string, at *netnstest.Namespace, args ...string) *process {
	t.Helper()
	p := &process{t: t, at: at, cmd: exec.Command("/proc/self/exe", args...), log: new(buffer), end: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "ISTHMUS_PROXY_TEST="+as)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := at.Start(p.cmd); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.end)
		p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.end
		if strings.Contains(p.log.String(), "DATA RACE") {
			t.Error("a data race")
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", strings.Join(args, " "), p.log)
		}
	})
	return p
}

// wait returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.end:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(deadline):
		p.t.Fatalf("still running: %s", p.log)
		return -1
	}
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.end
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// get asks url, a literal address, from inside the namespace.
func get(at *netnstest.Namespace, method, url string) (int, string, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return at.Dial(ctx, addr, 0)
		},
	}}
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// awaitStatus asks until the status is want.
func awaitStatus(t testing.TB, at *netnstest.Namespace, url string, want int) string {
	t.Helper()
	end := time.Now().Add(deadline)
	for {
		code, body, err := get(at, "GET", url)
		if err == nil && code == want {
			return body
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %d %q %v, want %d", url, code, body, err, want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// serveApp answers every request with its name and what the sidecar says of the caller.
func serveApp(t testing.TB, at *netnstest.Namespace, addr, name string) {
	t.Helper()
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s called by %s", name, r.Header.Get("X-Forwarded-Client-Cert"))
	})}
	l := at.Listen("tcp", addr)
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
}

const twoClusters = `
cluster east network=blue region=eu %s read
cluster west network=green region=eu %s read gateways=10.2.0.2:15443
service reviews.shop
  port 9080 http
  vip east 10.96.0.7
  vip west 10.97.0.7
  export west 9080/http
  endpoint west 10.3.0.2 pod=reviews-1 account=reviews mtls 9080:9080
workload east/shop/web-1 account=web
workload west/shop/reviews-1 account=reviews 9080/http
`

// A world is two clusters on two networks, as far as this program sees them.
type world struct {
	t                     *testing.T
	router, web, gw, app  *netnstest.Namespace
	east, west            *control
	sidecar, gateway, far *process
	webArgs               []string
}

// newWorld starts everything and waits until it is ready; extra are arguments
// for the caller's sidecar.
func newWorld(t *testing.T, extra ...string) *world {
	t.Helper()
	return newWorldFor(t, 0, extra...)
}

// newWorldFor is newWorld with identities of that lifetime; 0 is a day.
func newWorldFor(t *testing.T, lifetime time.Duration, extra ...string) *world {
	t.Helper()
	t.Parallel() // they mostly wait
	w := &world{t: t, router: netnstest.New(t), web: netnstest.New(t), gw: netnstest.New(t), app: netnstest.New(t)}
	for i, n := range []*netnstest.Namespace{w.web, w.gw, w.app} {
		ours, theirs := fmt.Sprintf("10.%d.0.1", i+1), fmt.Sprintf("10.%d.0.2", i+1)
		netnstest.Connect(w.router, n, fmt.Sprint("pod", i), "eth0", []string{ours + "/24"}, []string{theirs + "/24"})
		n.Gateway(ours)
	}
	w.router.Forward()
	root := newRoot(t)
	w.east = newControl(t, root, lifetime, "east", "10.1.0.1:15012", w.router, fmt.Sprintf(twoClusters, "local", ""))
	w.west = newControl(t, root, lifetime, "west", "10.2.0.1:15012", w.router, fmt.Sprintf(twoClusters, "", "local"))
	w.east.start()
	w.west.start()
	for _, pod := range []*netnstest.Namespace{w.web, w.app} {
		if code := start(t, pod, "intercept").wait(); code != 0 {
			t.Fatalf("intercept: exit code %d", code)
		}
	}
	w.webArgs = pod("sidecar", "shop", "web", "web-1", "10.1.0.2", w.east)
	w.webArgs = append(w.webArgs, extra...)
	w.sidecar = start(t, w.web, w.webArgs...)
	w.far = start(t, w.app, pod("sidecar", "shop", "reviews", "reviews-1", "10.3.0.2", w.west)...)
	w.gateway = start(t, w.gw, append(pod("gateway", "isthmus-system", "isthmus-eastwest", "gw-1", "10.2.0.2", w.west), "--drain-delay=100ms", "--drain-timeout=25s")...)
	serveApp(t, w.app, "10.3.0.2:9080", "reviews")
	for _, n := range []*netnstest.Namespace{w.web, w.gw, w.app} {
		awaitStatus(t, n, "http://127.0.0.1:15021/readyz", 200)
	}
	return w
}

func pod(role, namespace, account, name, ip string, c *control) []string {
	return append([]string{role, "--pod-name", name, "--pod-namespace", namespace, "--service-account", account, "--pod-ip", ip}, c.files(namespace, account, name)...)
}

const (
	service = "http://10.96.0.7:9080/"
	caller  = "URI=spiffe://cluster.local/ns/shop/sa/web"
)

// One request from pod to pod through both sidecars and the gateway arrives
// with the caller's identity. Then the control plane goes and the sidecar is
// killed: it comes back with what it had, and goes on being served when the
// control plane is there again.
func TestFromClusterToCluster(t *testing.T) {
	w := newWorld(t)
	body := awaitStatus(t, w.web, service, 200)
	if !strings.HasPrefix(body, "reviews called by") || !strings.Contains(body, caller) {
		t.Errorf("answer: %q", body)
	}
	if code, body, err := get(w.router, "GET", "http://10.3.0.2:9080/"); code != 200 || strings.Contains(body, "URI=") {
		t.Errorf("plaintext from outside the mesh: %d %q %v", code, body, err)
	}

	w.east.stop()
	for range 3 {
		w.sidecar.kill()
		w.sidecar = start(t, w.web, w.webArgs...)
		awaitStatus(t, w.web, "http://127.0.0.1:15021/readyz", 200)
		if _, body, err := get(w.web, "GET", service); err != nil || !strings.Contains(body, caller) {
			t.Fatalf("without control plane: %q %v", body, err)
		}
	}
	if body := awaitStatus(t, w.web, "http://127.0.0.1:15000/xds", 200); !strings.Contains(body, `"lastGood": true`) {
		t.Errorf("status: %s", body)
	}
	w.east.start()
	end := time.Now().Add(deadline)
	for len(w.east.ads.Proxies()) == 0 {
		if time.Now().After(end) {
			t.Fatal("the sidecar did not come back to the control plane")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if _, body, err := get(w.web, "GET", service); err != nil || !strings.Contains(body, caller) {
		t.Errorf("with control plane again: %q %v", body, err)
	}
}

// The control plane is away when identities are due for renewal: they serve on
// until they expire, then fail closed, and recover by themselves. (faults.md 23)
func TestRenewalDueWithoutControlPlane(t *testing.T) {
	w := newWorldFor(t, 12*time.Second)
	awaitStatus(t, w.web, service, 200)
	w.east.stop()
	w.west.stop()
	var end time.Time // of the identity that expires first
	for _, at := range []*netnstest.Namespace{w.web, w.app} {
		var certs struct{ NotAfter time.Time }
		if err := json.Unmarshal([]byte(awaitStatus(t, at, "http://127.0.0.1:15000/certs", 200)), &certs); err != nil {
			t.Fatal(err)
		}
		if end.IsZero() || certs.NotAfter.Before(end) {
			end = certs.NotAfter
		}
	}
	served := 0
	for {
		code, body, err := get(w.web, "GET", service)
		if time.Now().After(end) {
			break
		}
		if err != nil || code != 200 || !strings.Contains(body, caller) {
			t.Fatalf("%s before the end: %d %q %v", time.Until(end), code, body, err)
		}
		served++
		time.Sleep(20 * time.Millisecond)
	}
	if served == 0 {
		t.Error("nothing was asked")
	}
	awaitStatus(t, w.web, service, 503) // new connections are not made; plaintext is not sent
	if !strings.Contains(awaitStatus(t, w.web, "http://127.0.0.1:15000/certs", 200), "renewalError") {
		t.Error("no word of the renewal")
	}
	w.east.start()
	w.west.start()
	if body := awaitStatus(t, w.web, service, 200); !strings.Contains(body, caller) {
		t.Errorf("afterwards: %q", body)
	}
}

// The admin pages show what the proxy holds and no key; metrics and health are
// open, admin is not.
func TestPages(t *testing.T) {
	w := newWorld(t)
	awaitStatus(t, w.web, service, 200)
	for path, want := range map[string]string{
		"/config_dump?type=Listener": `"outbound|9080||reviews.shop.svc.clusterset.local"`,
		"/clusters":                  "10.2.0.2:15443",
		"/listeners":                 ":15001",
		"/certs":                     "spiffe://cluster.local/ns/shop/sa/web",
		"/stats/prometheus":          "istio_requests_total",
		"/xds":                       `"connected": true`,
		"/ready":                     "LIVE",
	} {
		body := awaitStatus(t, w.web, "http://127.0.0.1:15000"+path, 200)
		if !strings.Contains(body, want) || strings.Contains(body, "PRIVATE KEY") {
			t.Errorf("%s: no %q in %s", path, want, body)
		}
	}
	for url, want := range map[string]bool{
		"http://10.1.0.2:15090/stats/prometheus": true,
		"http://10.1.0.2:15021/healthz/ready":    true,
		"http://10.1.0.2:15000/config_dump":      false,
		"http://10.2.0.2:15000/config_dump":      false,
	} {
		if code, _, err := get(w.router, "GET", url); (err == nil && code == 200) != want {
			t.Errorf("%s from outside: %d %v, want %t", url, code, err, want)
		}
	}
	if strings.Contains(w.sidecar.log.String()+w.gateway.log.String(), "PRIVATE KEY") || strings.Contains(w.sidecar.log.String(), w.east.token("shop/web/web-1")) {
		t.Error("a key or token is in the log")
	}
}

// A gateway that is told to stop politely costs no request, though callers hold
// connections through it and are told by nobody: new ones go to the other gateway
// at once, those that are there end in their own time. It exits with 0 as soon as
// none is left. (faults.md 25)
func TestDrain(t *testing.T) {
	w := newWorld(t)
	other := netnstest.New(t)
	netnstest.Connect(w.router, other, "other", "eth0", []string{"10.4.0.1/24"}, []string{"10.4.0.2/24"})
	other.Gateway("10.4.0.1")
	start(t, other, pod("gateway", "isthmus-system", "isthmus-eastwest", "gw-2", "10.4.0.2", w.west)...)
	awaitStatus(t, other, "http://127.0.0.1:15021/readyz", 200)
	one := w.east.mesh
	w.east.update(strings.Replace(one, "10.2.0.2:15443", "10.2.0.2:15443,10.4.0.2:15443", 1))
	for _, gateway := range []*netnstest.Namespace{w.gw, other} { // both are in use
		awaitMetric(t, gateway, "istio_tcp_connections_opened_total", func() { awaitStatus(t, w.web, service, 200) })
	}

	traffic := newTraffic(t, w.web, 4)
	traffic.await(100)
	w.gateway.cmd.Process.Signal(syscall.SIGTERM)
	awaitStatus(t, w.gw, "http://127.0.0.1:15021/readyz", 503)
	end := time.Now().Add(deadline)
	for refused := false; !refused; time.Sleep(20 * time.Millisecond) {
		c, err := w.web.Dial(t.Context(), "10.2.0.2:15443", api.MarkInbound)
		if refused = err != nil; !refused {
			c.Close()
		}
		if time.Now().After(end) {
			t.Fatal("still takes new connections")
		}
	}
	traffic.await(400)
	w.east.update(strings.Replace(one, "10.2.0.2:15443", "10.4.0.2:15443", 1)) // as when it has gone from its Service
	if code := w.gateway.wait(); code != 0 || strings.Contains(w.gateway.log.String(), "still open") {
		t.Errorf("exit code %d: %s", code, w.gateway.log)
	}
	traffic.await(100)
	traffic.stop()
}

// awaitMetric repeats do until a proxy has counted something under name.
func awaitMetric(t testing.TB, at *netnstest.Namespace, name string, do func()) {
	t.Helper()
	end := time.Now().Add(deadline)
	for {
		do()
		if _, body, err := get(at, "GET", "http://127.0.0.1:15000/stats/prometheus"); err == nil && strings.Contains(body, name+"{") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no %s", name)
		}
	}
}

// traffic is requests that may not be sent twice, one after another on held
// connections. Each that fails fails the test.
type traffic struct {
	t    testing.TB
	done atomic.Int64
	stop func()
}

func newTraffic(t testing.TB, at *netnstest.Namespace, callers int) *traffic {
	tr := &traffic{t: t}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	tr.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(tr.stop)
	for range callers {
		client := &http.Client{Timeout: deadline, Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return at.Dial(ctx, addr, 0) },
		}}
		wg.Go(func() {
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				tr.post(client)
			}
		})
	}
	return tr
}

func (tr *traffic) post(client *http.Client) {
	resp, err := client.Post(service, "text/plain", strings.NewReader("once"))
	if err != nil {
		tr.t.Error(err)
		return
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), caller) {
		tr.t.Errorf("%d %q %v", resp.StatusCode, body, err)
	}
	tr.done.Add(1)
}

// await waits for n more.
func (tr *traffic) await(n int64) {
	tr.t.Helper()
	end := time.Now().Add(deadline)
	for want := tr.done.Load() + n; tr.done.Load() < want; time.Sleep(5 * time.Millisecond) {
		if tr.t.Failed() || time.Now().After(end) {
			tr.t.Fatalf("%d of %d requests done", tr.done.Load(), want)
		}
	}
}

// Envoy itself as the caller's data plane: the same request, the same identity,
// and again after both were killed while the control plane is down.
func TestWithEnvoy(t *testing.T) {
	program := os.Getenv("ENVOY")
	if program == "" {
		t.Skip("SKIPPED, no request went through Envoy: ENVOY names no binary")
	}
	w := newWorld(t, "--dataplane=envoy", "--envoy="+program)
	if body := awaitStatus(t, w.web, service, 200); !strings.Contains(body, caller) {
		t.Errorf("answer: %q", body)
	}
	w.east.stop()
	w.sidecar.kill()
	w.sidecar = start(t, w.web, w.webArgs...)
	awaitStatus(t, w.web, "http://127.0.0.1:15021/readyz", 200)
	if body := awaitStatus(t, w.web, service, 200); !strings.Contains(body, caller) {
		t.Errorf("without control plane: %q", body)
	}
}

// Killed at any moment 50 times, one or several at once, with the control plane
// there or not, sidecars and gateway are back in seconds and serve; no file that
// they keep is ever torn. (faults.md 24)
func TestKilledAtRandom(t *testing.T) {
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(1, 2))
	programs := []**process{&w.sidecar, &w.gateway, &w.far}
	for kills, down := 0, false; kills < 50; {
		switch {
		case down && rng.IntN(2) == 0:
			w.east.start()
			down = false
		case !down && rng.IntN(3) == 0:
			w.east.stop()
			down = true
		}
		if rng.IntN(3) == 0 { // while they start
			time.Sleep(time.Duration(rng.IntN(120)) * time.Millisecond)
		} else {
			awaitStatus(t, w.web, service, 200)
		}
		for _, i := range rng.Perm(len(programs))[:1+rng.IntN(len(programs))] {
			*programs[i] = (*programs[i]).replace()
			kills++
		}
		if body := awaitStatus(t, w.web, service, 200); !strings.Contains(body, caller) {
			t.Fatalf("after %d kills: %q", kills, body)
		}
	}
}

// replace kills p, looks at what it said, and starts another like it.
func (p *process) replace() *process {
	p.t.Helper()
	p.kill()
	if log := p.log.String(); strings.Contains(log, "unusable") || strings.Contains(log, "of no use") || strings.Contains(log, "panic") {
		p.t.Fatal(log)
	}
	return start(p.t, p.at, p.cmd.Args[1:]...)
}

// What is wrong with the environment is said in one line.
func TestBadSettings(t *testing.T) {
	good := []string{"--pod-name=a", "--pod-namespace=b", "--service-account=c", "--pod-ip=10.0.0.1", "--cluster=east", "--data=" + t.TempDir()}
	for arg, want := range map[string]string{
		"--pod-name=":                "no pod name",
		"--cluster=":                 "no cluster",
		"--pod-ip=pod":               "pod address",
		"--trust-domain=A/B":         "trust domain",
		"--dataplane=nginx":          "neither builtin nor envoy",
		"--probes={":                 "probes",
		"--service-account=a/../b":   "spiffe id",
		"--data=/proc/none":          "data folder",
		"--dataplane=envoy":          "name the program with --envoy",
		"--no-such-flag=1":           "unknown flag",
		"--discovery-cluster=a.b..c": "cluster name",
	} {
		var out, errs bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		code := run(ctx, append(append([]string{"sidecar"}, good...), arg), func(string) string { return "" }, &out, &errs)
		cancel()
		if code != 1 || !strings.Contains(errs.String(), want) || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("%s: code %d, %q, want %q", arg, code, errs.String(), want)
		}
	}
	for _, bad := range []string{"--exclude-inbound-ports=x", "--exclude-outbound-ports=0", "--exclude-outbound-cidrs=10"} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), []string{"intercept", bad}, func(string) string { return "" }, &out, &errs); code != 1 {
			t.Errorf("%s: code %d, %q", bad, code, errs.String())
		}
	}
}

func TestWorkload(t *testing.T) {
	for pod, want := range map[string]string{
		"reviews-v1-7b8f9c6d5c-x2x9z": "reviews-v1", "db-0": "db", "agent-x2x9z": "agent", "web": "web", "web-one": "web-one", "": "",
	} {
		if got := workload(pod); got != want {
			t.Errorf("%s: %s, want %s", pod, got, want)
		}
	}
}
