package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// serve runs a server and returns a getter of path's status and body.
func serve(t *testing.T, opts Options) func(path string) (int, string) {
	t.Helper()
	opts.Listener, opts.Pod = listen(t), netip.MustParseAddr("127.0.0.1")
	if opts.Ready == nil {
		opts.Ready = func() error { return nil }
	}
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return func(path string) (int, string) {
		t.Helper()
		resp, err := client.Get("http://" + opts.Listener.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, strings.TrimSpace(string(body))
	}
}

func TestReady(t *testing.T) {
	var ready atomic.Bool
	get := serve(t, Options{Ready: func() error {
		if !ready.Load() {
			return errors.New("no identity yet")
		}
		return nil
	}})
	for _, path := range []string{"/readyz", "/healthz/ready"} {
		ready.Store(false)
		if code, body := get(path); code != 503 || body != "not ready: no identity yet" {
			t.Errorf("%s: %d %s", path, code, body)
		}
		ready.Store(true)
		if code, _ := get(path); code != 200 {
			t.Errorf("%s: %d", path, code)
		}
	}
	if code, _ := get("/app-health/none/readyz"); code != 404 {
		t.Errorf("unknown probe: %d", code)
	}
}

func TestHTTPProbe(t *testing.T) {
	app := http.NewServeMux()
	app.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "app.example" || r.Header.Get("X-Probe") != "1" || r.URL.RawQuery != "full=1" {
			http.Error(w, "wrong request", 400)
		}
	})
	app.HandleFunc("/bad", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	app.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/bad", 302) })
	app.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	for scheme, server := range map[string]*httptest.Server{"http": httptest.NewServer(app), "https": httptest.NewTLSServer(app)} {
		t.Cleanup(server.Close)
		at := port(server.Listener)
		probes, err := ParseProbes(fmt.Sprintf(`{
			"/app-health/a/readyz": {"httpGet": {"path": "/ok?full=1", "port": %d, "scheme": %q, "httpHeaders": [{"name": "Host", "value": "app.example"}, {"name": "X-Probe", "value": "1"}]}},
			"/app-health/a/livez": {"httpGet": {"path": "bad", "port": %d, "scheme": %q}},
			"/app-health/b/livez": {"httpGet": {"path": "/moved", "port": %d, "scheme": %q}},
			"/app-health/a/startupz": {"httpGet": {"path": "/slow", "port": %d, "scheme": %q}, "timeoutSeconds": 1}
		}`, at, scheme, at, scheme, at, scheme, at, scheme))
		if err != nil {
			t.Fatal(err)
		}
		get := serve(t, Options{Probes: probes})
		for path, want := range map[string]int{"a/readyz": 200, "a/livez": 500, "b/livez": 302, "a/startupz": 503} {
			if code, body := get(Prefix + path); code != want {
				t.Errorf("%s %s: %d %s, want %d", scheme, path, code, body, want)
			}
		}
	}
}

func TestTCPProbe(t *testing.T) {
	open, closed := listen(t), listen(t)
	closed.Close()
	get := serve(t, Options{Probes: map[string]Probe{
		"/app-health/a/readyz": {TCP: &TCPProbe{Port: port(open)}},
		"/app-health/a/livez":  {TCP: &TCPProbe{Port: port(closed)}},
	}})
	if code, _ := get("/app-health/a/readyz"); code != 200 {
		t.Errorf("open port: %d", code)
	}
	if code, _ := get("/app-health/a/livez"); code != 503 {
		t.Errorf("closed port: %d", code)
	}
}

func TestGRPCProbe(t *testing.T) {
	l, server, state := listen(t), grpc.NewServer(), grpchealth.NewServer()
	healthv1.RegisterHealthServer(server, state)
	state.SetServingStatus("up", healthv1.HealthCheckResponse_SERVING)
	state.SetServingStatus("down", healthv1.HealthCheckResponse_NOT_SERVING)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	probes := map[string]Probe{}
	for _, service := range []string{"up", "down", "unknown"} {
		probes[Prefix+service] = Probe{GRPC: &GRPCProbe{Port: port(l), Service: service}}
	}
	get := serve(t, Options{Probes: probes})
	for service, want := range map[string]int{"up": 200, "down": 503, "unknown": 503} {
		if code, body := get(Prefix + service); code != want {
			t.Errorf("%s: %d %s, want %d", service, code, body, want)
		}
	}
}

func TestParseProbesRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":       `{`,
		"two values":    `{} {}`,
		"unknown field": `{"/app-health/a/livez": {"exec": {"command": ["x"]}}}`,
		"no action":     `{"/app-health/a/livez": {}}`,
		"two actions":   `{"/app-health/a/livez": {"tcpSocket": {"port": 1}, "grpc": {"port": 1}}}`,
		"named port":    `{"/app-health/a/livez": {"tcpSocket": {"port": "http"}}}`,
		"port 0":        `{"/app-health/a/livez": {"tcpSocket": {}}}`,
		"port too big":  `{"/app-health/a/livez": {"grpc": {"port": 65536}}}`,
		"path":          `{"/livez": {"tcpSocket": {"port": 1}}}`,
		"scheme":        `{"/app-health/a/livez": {"httpGet": {"port": 1, "scheme": "ftp"}}}`,
		"timeout":       `{"/app-health/a/livez": {"tcpSocket": {"port": 1}, "timeoutSeconds": -1}}`,
		"too long":      strings.Repeat(" ", maxProbesBytes) + `{}`,
	} {
		if _, err := ParseProbes(text); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if p, err := ParseProbes(" "); err != nil || p != nil {
		t.Errorf("nothing: %v, %v", p, err)
	}
}

func FuzzParseProbes(f *testing.F) {
	f.Add(`{"/app-health/a/livez": {"httpGet": {"path": "/x", "port": 80, "httpHeaders": [{"name": "a", "value": "b"}]}, "timeoutSeconds": 3}}`)
	f.Add(`{"/app-health/a/livez": {"grpc": {"port": 9000}}}`)
	f.Add(`{"/app-health/a/livez": null}`)
	f.Fuzz(func(t *testing.T, text string) {
		probes, err := ParseProbes(text)
		if err != nil {
			return
		}
		for path, p := range probes {
			if !strings.HasPrefix(path, Prefix) || p.Timeout() < time.Second {
				t.Errorf("accepted %q: %+v", path, p)
			}
		}
	})
}
