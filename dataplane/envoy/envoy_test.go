package envoy

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
)

const deadline = 20 * time.Second

// TestMain makes the test binary a small stand-in for Envoy, which shows only
// that a process is started, watched and stopped. It writes a line when it has
// started, and then does what its argument says.
func TestMain(m *testing.M) {
	if file := os.Getenv("STAND_IN"); file != "" {
		standIn(file, os.Args[1])
		return
	}
	os.Exit(m.Run())
}

func standIn(file, do string) {
	stop := make(chan os.Signal, 1)
	if do != "stubborn" {
		signal.Notify(stop, syscall.SIGTERM)
	} else {
		signal.Ignore(syscall.SIGTERM)
	}
	say(file, "started")
	if do == "crash" {
		os.Exit(3)
	}
	<-stop
	say(file, "stopped")
}

func say(file, word string) {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		fmt.Fprintln(f, word, os.Getpid())
		f.Close()
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for %s", what)
		}
	}
}

// supervise runs the stand-in until stop, and returns what it says.
func supervise(t *testing.T, do string) (s *Supervisor, said func() string, stop func()) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "said")
	t.Setenv("STAND_IN", file)
	s, err := New(Options{Path: "/proc/self/exe", Args: []string{do}, Backoff: 5 * time.Millisecond, Grace: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	said = func() string {
		b, _ := os.ReadFile(file)
		return string(b)
	}
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
	return s, said, stop
}

func TestSupervisorStops(t *testing.T) {
	_, said, stop := supervise(t, "serve")
	await(t, "the start", func() bool { return strings.Contains(said(), "started") })
	stop()
	if !strings.Contains(said(), "stopped") {
		t.Errorf("not stopped politely: %s", said())
	}
}

func TestSupervisorKillsTheStubborn(t *testing.T) {
	_, said, stop := supervise(t, "stubborn")
	await(t, "the start", func() bool { return strings.Contains(said(), "started") })
	var pid int
	fmt.Sscanf(said(), "started %d", &pid)
	stop()
	if err := syscall.Kill(pid, 0); err == nil {
		t.Error("still there")
	}
}

func TestSupervisorRestarts(t *testing.T) {
	s, said, stop := supervise(t, "crash")
	await(t, "five starts", func() bool { return strings.Count(said(), "started") >= 5 })
	stop()
	if s.Restarts() < 4 {
		t.Errorf("%d restarts", s.Restarts())
	}
}

// A killed process is replaced.
func TestSupervisorReplacesTheKilled(t *testing.T) {
	_, said, _ := supervise(t, "serve")
	await(t, "the start", func() bool { return strings.Contains(said(), "started") })
	var pid int
	fmt.Sscanf(said(), "started %d", &pid)
	syscall.Kill(pid, syscall.SIGKILL)
	await(t, "another", func() bool { return strings.Count(said(), "started") == 2 })
}

func TestSupervisorWithoutProgram(t *testing.T) {
	s, err := New(Options{Path: "/no/such/envoy"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("no error")
	}
}

func config(dir string) Config {
	return Config{
		Node: &corev3.Node{Id: "sidecar~10.0.0.1~a.shop~shop.svc.cluster.local", Cluster: "a.shop"}, Socket: dir + "/envoy.sock", Admin: dir + "/admin.sock",
	}
}

func TestBootstrap(t *testing.T) {
	b, err := Bootstrap(config("/var/run/isthmus/data"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	again := new(bootstrapv3.Bootstrap)
	if err := protojson.Unmarshal(text, again); err != nil {
		t.Fatal(err)
	}
	if got := again.GetStaticResources().GetClusters(); len(got) != 2 || got[0].GetName() != ClusterXDS || got[1].GetName() != ClusterSDS {
		t.Errorf("static xds clusters: %v", got)
	}
	if strings.Contains(string(text), "port_value") || again.GetAdmin().GetAddress().GetPipe().GetPath() != "/var/run/isthmus/data/admin.sock" {
		t.Error("envoy listens at a port of its own, which may be one of an entry gateway's")
	}
	if api := again.GetDynamicResources().GetAdsConfig().GetApiType(); api != corev3.ApiConfigSource_DELTA_GRPC {
		t.Errorf("ADS is %s", api)
	}
	for name, bad := range map[string]Config{
		"relative path": {Node: b.GetNode(), Socket: "envoy.sock", Admin: "/a"},
		"no node":       {Socket: "/s", Admin: "/a"},
		"long path":     {Node: b.GetNode(), Socket: "/" + strings.Repeat("s", 108), Admin: "/a"},
	} {
		if _, err := Bootstrap(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Envoy itself takes the bootstrap.
func TestBootstrapByEnvoy(t *testing.T) {
	program := os.Getenv("ENVOY")
	if program == "" {
		t.Skip("SKIPPED, the bootstrap was not given to Envoy: ENVOY names no binary")
	}
	dir := t.TempDir()
	b, err := Bootstrap(config(dir))
	if err != nil {
		t.Fatal(err)
	}
	text, err := Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program, "--mode", "validate", "-c", path).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestAdmin(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "admin.sock")
	var open atomic.Int64
	open.Store(2)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if open.Load() > 0 {
			http.Error(w, "INITIALIZING", 503)
		}
	})
	var asked []string
	mux.HandleFunc("POST /drain_listeners", func(_ http.ResponseWriter, r *http.Request) { asked = append(asked, r.URL.RawQuery) })
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"stats":[{"name":"listener.0.0.0.0_15001.downstream_cx_active","value":%d},{"name":"listener.admin.downstream_cx_active","value":1}]}`, open.Add(-1))
	})
	mux.HandleFunc("GET /stats/prometheus", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "# TYPE envoy_server_live gauge\nenvoy_server_live{} 1")
	})
	mux.HandleFunc("GET /clusters", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"cluster_statuses":[]}`) })
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mux}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })

	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	a := NewAdmin(socket)
	if err := a.Ready(ctx); err == nil || !strings.Contains(err.Error(), "INITIALIZING") {
		t.Errorf("ready: %v", err)
	}
	for _, refuse := range []bool{false, true} {
		open.Store(2)
		if err := a.Drain(ctx, refuse); err != nil || open.Load() != 0 {
			t.Errorf("drain: %v, %d open", err, open.Load())
		}
	}
	if len(asked) != 2 || asked[0] != "graceful&skip_exit" || asked[1] != "" {
		t.Errorf("drained by %q", asked)
	}
	if err := a.Ready(ctx); err != nil {
		t.Errorf("ready: %v", err)
	}
	if page, err := a.JSON(ctx, "/clusters?format=json"); err != nil || !json.Valid(page) {
		t.Errorf("clusters: %s %v", page, err)
	}
	if families, err := a.Gather(); err != nil || len(families) != 1 {
		t.Errorf("metrics: %v %v", families, err)
	}
}
