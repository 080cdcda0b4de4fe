package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/dataplane/xds"
	"github.com/isthmus-mesh/isthmus/fault"
)

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func run(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

type caller struct {
	t    *testing.T
	base string
}

func (c caller) do(method, path, host string) (int, string) {
	c.t.Helper()
	req, err := http.NewRequest(method, c.base+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if host != "" {
		req.Host = host
	}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func TestAdmin(t *testing.T) {
	registry, level, drained := prometheus.NewRegistry(), new(slog.LevelVar), false
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "test_total"})
	registry.MustRegister(counter)
	state := xds.State{
		xds.TypeCluster:  {"a": &clusterv3.Cluster{Name: "a"}, "b": &clusterv3.Cluster{Name: "b"}},
		xds.TypeListener: map[string]proto.Message{},
	}
	l := listen(t, "127.0.0.1:0")
	s, err := New(Options{
		Listener: l, Gatherer: registry, Ready: func() error { return errors.New("no listeners yet") },
		State:    func() xds.State { return state },
		Clusters: func() any { return []string{"a"} },
		Drain:    func() { drained = true }, Level: level,
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	c := caller{t, "http://" + l.Addr().String()}
	for _, want := range []struct {
		method, path, host string
		code               int
		text               string
	}{
		{"GET", "/ready", "", 503, "no listeners yet"},
		{"GET", "/stats/prometheus", "", 200, "test_total 0"},
		{"GET", "/clusters", "", 200, `"a"`},
		{"GET", "/listeners", "", 404, "no such page"},
		{"GET", "/drain", "", 405, ""},
		{"GET", "/quitquitquit", "", 405, ""},
		{"GET", "/logging", "", 200, "INFO"},
		{"POST", "/logging?level=debug", "", 200, "DEBUG"},
		{"POST", "/logging?level=loud", "", 400, "level is"},
		{"POST", "/drain", "evil.example", 403, "localhost"},
		{"GET", "/config_dump?type=Cluster&name=b", "localhost:15000", 200, `"b"`},
	} {
		code, body := c.do(want.method, want.path, want.host)
		if code != want.code || !strings.Contains(body, want.text) {
			t.Errorf("%s %s: %d %s", want.method, want.path, code, body)
		}
	}
	if level.Level() != slog.LevelDebug {
		t.Errorf("level is %s", level.Level())
	}
	if drained {
		t.Error("drained by a foreign host")
	}
	c.do("POST", "/drain", "")
	if !drained {
		t.Error("not drained")
	}
	_, body := c.do("GET", "/config_dump", "")
	var dump Dump
	if err := json.Unmarshal([]byte(body), &dump); err != nil || len(dump["Cluster"]) != 2 || dump["Listener"] == nil {
		t.Errorf("dump: %v %s", err, body)
	}
}

func TestLoopbackOnly(t *testing.T) {
	_, err := New(Options{Listener: listen(t, "0.0.0.0:0"), Gatherer: prometheus.NewRegistry(), Ready: func() error { return nil }})
	if err == nil || !strings.Contains(err.Error(), "not a loopback address") {
		t.Errorf("got %v", err)
	}
}

func TestMetrics(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	run(t, NewMetrics(l, prometheus.NewRegistry()))
	c := caller{t, "http://" + l.Addr().String()}
	for path, want := range map[string]int{"/metrics": 200, "/stats/prometheus": 200, "/config_dump": 404, "/drain": 404} {
		if code, _ := c.do("GET", path, ""); code != want {
			t.Errorf("%s: %d", path, code)
		}
	}
}

// A fault is asked for with all that it needs, or refused with what is wrong.
func TestFault(t *testing.T) {
	var broken []string
	opts := Options{
		Listener: listen(t, "127.0.0.1:0"), Gatherer: prometheus.NewRegistry(), Ready: func() error { return nil },
		Faults: func() any { return broken },
		Break: func(listener string, m fault.Mode, d time.Duration) error {
			if listener != "east-west" {
				return errors.New("no such listener is open")
			}
			broken = append(broken, fmt.Sprint(listener, " ", m, " ", d))
			return nil
		},
		Mend: func(string) error { broken = nil; return nil },
	}
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	c := caller{t, "http://" + opts.Listener.Addr().String()}
	for _, want := range []struct {
		method, path string
		code         int
		text         string
	}{
		{"POST", "/fault?listener=east-west&mode=melt&for=10s", 400, `"melt" is neither refuse nor drop`},
		{"POST", "/fault?listener=east-west&mode=drop", 400, "for is a duration"},
		{"POST", "/fault?listener=inbound&mode=drop&for=10s", 400, "no such listener"},
		{"POST", "/fault?listener=east-west&mode=drop&for=10s", 200, "east-west drop 10s"},
		{"GET", "/fault", 200, "east-west drop 10s"},
		{"DELETE", "/fault?listener=east-west", 200, "null"},
		{"PUT", "/fault", 405, ""},
	} {
		if code, body := c.do(want.method, want.path, ""); code != want.code || !strings.Contains(body, want.text) {
			t.Errorf("%s %s: %d %s", want.method, want.path, code, body)
		}
	}
	if code, _ := c.do("POST", "/fault?listener=east-west&mode=drop&for=10s", "evil.example"); code != 403 || broken != nil {
		t.Errorf("a foreign host: %d, %v", code, broken)
	}
}

// A proxy that has no faults says why.
func TestNoFault(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	s, err := New(Options{Listener: l, Gatherer: prometheus.NewRegistry(), Ready: func() error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	for _, method := range []string{"GET", "POST", "DELETE"} {
		if code, body := (caller{t, "http://" + l.Addr().String()}).do(method, "/fault", ""); code != 501 || !strings.Contains(body, "built-in data plane") {
			t.Errorf("%s: %d %s", method, code, body)
		}
	}
}
