package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/dataplane/intercept/netnstest"
)

// weak starts the program again without any capability, as a gateway's container
// has it. It returns only where that fails.
func weak() error {
	runtime.LockOSThread() // what is dropped is the thread's
	for c := range uintptr(64) {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			break // there are no more
		}
	}
	if err := os.Setenv("ISTHMUS_PROXY_TEST", "main"); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

const entryMesh = `
cluster east network=blue region=eu %s read entries=10.5.0.2 inside=10.6.0.0/24 shutout=10.6.0.9
cluster west network=green region=eu %s read gateways=10.2.0.2:15443
service db.shop
  port 5432 tcp
  port 9080 http
  vip east 10.96.0.7
  export west 5432/tcp 9080/http%s
  endpoint west 10.3.0.2 pod=db-0 account=db mtls 5432:5432 9080:9080
  entry east 5432 20001
  entry east 9080 20002
workload west/shop/db-0 account=db 5432/tcp 9080/http%s
`

// An entryWorld is a cluster with an entry gateway, and another one behind its
// east-west gateway; plain is a pod without a sidecar.
type entryWorld struct {
	*world
	plain, entry *netnstest.Namespace
	gate         *process
}

func newEntryWorld(t *testing.T, extra ...string) *entryWorld {
	t.Helper()
	t.Parallel()
	w := &entryWorld{world: &world{t: t, router: netnstest.New(t), gw: netnstest.New(t), app: netnstest.New(t)}, plain: netnstest.New(t), entry: netnstest.New(t)}
	for i, n := range map[int]*netnstest.Namespace{2: w.gw, 3: w.app, 5: w.entry, 6: w.plain} {
		ours, theirs := fmt.Sprintf("10.%d.0.1", i), fmt.Sprintf("10.%d.0.2", i)
		netnstest.Connect(w.router, n, fmt.Sprint("pod", i), "eth0", []string{ours + "/24"}, []string{theirs + "/24"})
		n.Gateway(ours)
	}
	w.plain.Address("eth0", "10.6.0.9/24")
	w.router.Forward()
	root := newRoot(t)
	w.east = newControl(t, root, 0, "east", "10.5.0.1:15012", w.router, fmt.Sprintf(entryMesh, "local", "", "", ""))
	w.west = newControl(t, root, 0, "west", "10.2.0.1:15012", w.router, fmt.Sprintf(entryMesh, "", "local", "", ""))
	w.east.start()
	w.west.start()
	for pod, args := range map[*netnstest.Namespace][]string{w.app: {"intercept"}, w.entry: {"intercept", "--entry-ports=20000-29999"}} {
		if p := start(t, pod, args...); p.wait() != 0 {
			t.Fatal(p.log)
		}
	}
	w.far = start(t, w.app, pod("sidecar", "shop", "db", "db-0", "10.3.0.2", w.west)...)
	w.gateway = start(t, w.gw, pod("gateway", "isthmus-system", "isthmus-eastwest", "gw-1", "10.2.0.2", w.west)...)
	w.gate = startWeak(t, w.entry, append(append(pod("gateway", "isthmus-system", "isthmus-entry", "entry-1", "10.5.0.2", w.east), "--kind=entry"), extra...)...)
	serveLines(t, w.app, "10.3.0.2:5432")
	serveApp(t, w.app, "10.3.0.2:9080", "reviews")
	for _, n := range []*netnstest.Namespace{w.entry, w.gw, w.app} {
		awaitStatus(t, n, "http://127.0.0.1:15021/readyz", 200)
	}
	return w
}

// serveLines says hello first, then sends back each line.
func serveLines(t testing.TB, at *netnstest.Namespace, addr string) {
	t.Helper()
	l := at.Listen("tcp", addr)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.WriteString(c, "hello\n")
				io.Copy(c, c)
			}()
		}
	}()
}

// A call is a connection to serveLines.
type call struct {
	net.Conn
	r *bufio.Reader
}

// callFrom connects from an address of the namespace; the error is of dialling.
func callFrom(t testing.TB, at *netnstest.Namespace, from, to string) (*call, error) {
	t.Helper()
	var c net.Conn
	err := at.Do(func() (err error) {
		d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err = d.DialContext(t.Context(), "tcp", to)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(2 * deadline))
	t.Cleanup(func() { c.Close() })
	return &call{c, bufio.NewReader(c)}, nil
}

// line sends one, unless it is empty, and returns what comes.
func (c *call) line(s string) string {
	if s != "" {
		if _, err := io.WriteString(c, s+"\n"); err != nil {
			return err.Error()
		}
	}
	got, err := c.r.ReadString('\n')
	if err != nil {
		return "closed after " + fmt.Sprintf("%q", got)
	}
	return strings.TrimSpace(got)
}

// until asks from a new connection until the answer is want.
func (w *entryWorld) until(from, to, want string) *call {
	w.t.Helper()
	for end := time.Now().Add(deadline); ; time.Sleep(20 * time.Millisecond) {
		got := "refused"
		c, err := callFrom(w.t, w.plain, from, to)
		if err == nil {
			got = c.line("")
		}
		if got == want {
			return c
		}
		if err == nil {
			c.Close()
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s from %s: %q, want %q", to, from, got, want)
		}
	}
}

const (
	caught = `closed after ""`
	plain  = "10.6.0.2"
	shut   = "10.6.0.9"
)

// A pod without a sidecar reaches a service of another network, whose server
// learns that the entry gateway called, by a proxy without any capability. Who
// is shut out, calls from elsewhere or calls no service gets no byte.
func TestEntryGateway(t *testing.T) {
	w := newEntryWorld(t)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.gate.cmd.Process.Pid))
	if err != nil || !strings.Contains(string(status), "CapEff:\t0000000000000000") {
		t.Errorf("the gateway has capabilities: %s %v", status, err)
	}
	c := w.until(plain, "10.5.0.2:20001", "hello")
	if got := c.line("one"); got != "one" {
		t.Errorf("%q", got)
	}
	if code, body, err := get(w.plain, "GET", "http://10.5.0.2:20002/"); code != 200 || !strings.Contains(body, "URI=spiffe://cluster.local/ns/isthmus-system/sa/isthmus-entry;DNS=east.clusters.isthmus.internal") {
		t.Errorf("%d %q %v", code, body, err)
	}
	w.until(shut, "10.5.0.2:20001", caught)
	w.until(plain, "10.5.0.2:20003", caught)
	w.until(plain, "10.5.0.2:29999", caught)
	w.until(plain, "10.5.0.2:15444", caught)
	w.until(plain, "10.5.0.2:19999", "refused")
	w.until(plain, "10.5.0.2:15000", "refused")
	far, err := callFrom(t, w.router, "10.5.0.1", "10.5.0.2:20001")
	if err != nil || far.line("") != caught {
		t.Errorf("from elsewhere: %v", err)
	}
	body := awaitStatus(t, w.entry, "http://127.0.0.1:15000/clusters", 200)
	if !strings.Contains(body, `"entry|20001"`) || !strings.Contains(body, "10.2.0.2:15443") {
		t.Errorf("clusters: %s", body)
	}
	body = awaitStatus(t, w.entry, "http://127.0.0.1:15000/stats/prometheus", 200)
	for _, want := range []string{`destination_service="db.shop.svc.clusterset.local"`, `source_principal="spiffe://cluster.local/ns/isthmus-system/sa/isthmus-entry"`, `destination_principal="spiffe://cluster.local/ns/shop/sa/db"`, `reporter="source"`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}

	// The range of callers changes under the connection.
	w.east.update(strings.Replace(w.east.mesh, "inside=10.6.0.0/24", "inside=10.6.0.0/24,10.5.0.0/24", 1))
	for end := time.Now().Add(deadline); ; time.Sleep(20 * time.Millisecond) {
		if far, err := callFrom(t, w.router, "10.5.0.1", "10.5.0.2:20001"); err == nil && far.line("") == "hello" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the new range is not let in")
		}
	}
	if got := c.line("two"); got != "two" {
		t.Errorf("after the ranges changed: %q", got)
	}

	// The service refuses entry gateways: its sidecar does, whatever the gateway's control plane thinks.
	w.west.update(strings.NewReplacer("9080/http\n  endpoint", "9080/http noentry\n  endpoint", "5432/tcp 9080/http\n", "5432/tcp 9080/http noentry:5432 noentry:9080\n").Replace(w.west.mesh))
	w.until(plain, "10.5.0.2:20001", caught)
	// The service goes.
	w.west.update(fmt.Sprintf(entryMesh, "", "local", "", ""))
	w.until(plain, "10.5.0.2:20001", "hello")
	w.east.update(strings.Replace(w.east.mesh, "  entry east 5432 20001\n", "", 1))
	w.until(plain, "10.5.0.2:20001", caught)
}

// Killed while the control plane is away, the gateway comes back with what it had.
func TestEntryGatewayKilled(t *testing.T) {
	w := newEntryWorld(t)
	w.until(plain, "10.5.0.2:20001", "hello")
	w.east.stop()
	w.gate.kill()
	w.gate = startWeak(t, w.entry, w.gate.cmd.Args[1:]...)
	w.until(plain, "10.5.0.2:20001", "hello")
	awaitStatus(t, w.entry, "http://127.0.0.1:15021/readyz", 200)
}

// A gateway that is told to stop takes connections until balancers have noticed,
// then none, while those that are there go on; it ends with the last of them.
func TestEntryDrain(t *testing.T) {
	w := newEntryWorld(t, "--drain-delay=3s", "--drain-timeout=25s")
	held := w.until(plain, "10.5.0.2:20001", "hello")
	w.gate.cmd.Process.Signal(syscall.SIGTERM)
	awaitStatus(t, w.entry, "http://127.0.0.1:15021/readyz", 503)
	late := w.until(plain, "10.5.0.2:20001", "hello")
	w.until(plain, "10.5.0.2:20001", "refused")
	for i, c := range []*call{held, late} {
		if got := c.line("still"); got != "still" {
			t.Errorf("connection %d: %q", i, got)
		}
		c.Close()
	}
	if code := w.gate.wait(); code != 0 || strings.Contains(w.gate.log.String(), "still open") {
		t.Errorf("exit code %d: %s", code, w.gate.log)
	}
}

// A connection that does not end has the timeout.
func TestEntryDrainTimeout(t *testing.T) {
	w := newEntryWorld(t, "--drain-delay=0s", "--drain-timeout=1s")
	held := w.until(plain, "10.5.0.2:20001", "hello")
	w.gate.cmd.Process.Signal(syscall.SIGTERM)
	if code := w.gate.wait(); code != 0 || !strings.Contains(w.gate.log.String(), "1 connections left") {
		t.Errorf("exit code %d: %s", code, w.gate.log)
	}
	if got := held.line(""); got != caught {
		t.Errorf("afterwards: %q", got)
	}
}

func TestGatewayKinds(t *testing.T) {
	for kind, want := range map[string]string{"": "east-west", "east-west": "east-west", "entry": "entry"} {
		cfg := settings{role: roleGateway}
		set := pflag.NewFlagSet("gateway", pflag.ContinueOnError)
		cfg.flags(set, func(name string) string { return map[string]string{"ISTHMUS_GATEWAY": kind}[name] })
		if err := set.Parse([]string{"--pod-name=a", "--pod-namespace=b", "--service-account=c", "--pod-ip=10.0.0.1", "--cluster=east", "--data=" + t.TempDir()}); err != nil {
			t.Fatal(err)
		}
		if err := cfg.check(); err != nil {
			t.Fatal(err)
		}
		node := cfg.node()
		if got := node.GetMetadata().GetFields()["PROXY_TYPE"].GetStringValue(); got != want || !strings.HasPrefix(node.GetId(), "router~") {
			t.Errorf("%q: proxy type %s of %s, want %s", kind, got, node.GetId(), want)
		}
		if got := cfg.listeners(); len(got) != 1 || got[0] != want {
			t.Errorf("%q: needs %v", kind, got)
		}
	}
	good := []string{"--pod-name=a", "--pod-namespace=b", "--service-account=c", "--pod-ip=10.0.0.1", "--cluster=east", "--data=" + t.TempDir()}
	for _, c := range []struct {
		args []string
		env  map[string]string
		want string
	}{
		{append([]string{"gateway", "--kind=west-east"}, good...), nil, `gateway kind "west-east" is neither east-west nor entry`},
		{append([]string{"gateway"}, good...), map[string]string{"ISTHMUS_GATEWAY": "sidecar"}, `gateway kind "sidecar" is neither`},
		{append([]string{"sidecar", "--kind=entry"}, good...), nil, "unknown flag"},
		{[]string{"intercept", "--entry-ports=29999-20000"}, nil, "does not lie within 1024-65535 in ascending order"},
		{[]string{"intercept", "--entry-ports=15000-15500"}, nil, "holds ports from 15000 to 15099, which are the proxy's own"},
		{[]string{"intercept"}, map[string]string{"ISTHMUS_ENTRY_PORTS": "many"}, `"many" is not of the form 20000-29999`},
		{[]string{"intercept", "--entry-ports=20000-29999", "--exclude-inbound-ports=80"}, nil, "an entry gateway redirects its ports alone"},
	} {
		var errs bytes.Buffer
		code := run(t.Context(), c.args, func(name string) string { return c.env[name] }, io.Discard, &errs)
		if code != 1 || !strings.Contains(errs.String(), c.want) || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("%v: code %d, %q, want %q", c.args, code, errs.String(), c.want)
		}
	}
}

// Envoy itself as the entry gateway's data plane.
func TestEntryWithEnvoy(t *testing.T) {
	program := os.Getenv("ENVOY")
	if program == "" {
		t.Skip("SKIPPED, no connection went through Envoy: ENVOY names no binary")
	}
	w := newEntryWorld(t, "--dataplane=envoy", "--envoy="+program, "--drain-delay=0s", "--drain-timeout=25s")
	held := w.until(plain, "10.5.0.2:20001", "hello")
	w.until(shut, "10.5.0.2:20001", caught)
	w.until(plain, "10.5.0.2:20003", caught)
	w.until(plain, "10.5.0.2:15444", caught)
	w.gate.cmd.Process.Signal(syscall.SIGTERM)
	w.until(plain, "10.5.0.2:20001", "refused")
	if got := held.line("still"); got != "still" {
		t.Errorf("%q", got)
	}
	held.Close()
	if code := w.gate.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, w.gate.log)
	}
}
