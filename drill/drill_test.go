package drill

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/drill/load"
)

// service answers as the cluster that is named, or with 503 when it is "".
type service struct{ cluster atomic.Value }

func newService(t *testing.T) (*service, string) {
	s := &service{}
	s.cluster.Store("east")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		cluster, _ := s.cluster.Load().(string)
		if cluster == "" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		w.Header().Set(load.HeaderCluster, cluster)
	}))
	t.Cleanup(srv.Close)
	return s, srv.URL
}

func testOptions(url string, scenario Scenario) Options {
	return Options{
		Scenario:   scenario,
		Objectives: Objectives{Home: "east", Away: "west", Recover: time.Second, FailBack: 5 * time.Second, ErrorRate: 0},
		Load: func(ctx context.Context, each func(load.Record)) error {
			return load.Run(ctx, load.Options{URL: url, Rate: 100}, each)
		},
		Baseline: 200 * time.Millisecond, Hold: 300 * time.Millisecond, After: 200 * time.Millisecond,
	}
}

func TestRunPasses(t *testing.T) {
	s, url := newService(t)
	result, err := Run(t.Context(), testOptions(url, Scenario{
		Name:    "test",
		Break:   func(context.Context) error { s.cluster.Store("west"); return nil },
		Restore: func(context.Context) error { s.cluster.Store("east"); return nil },
		Noticed: func(context.Context) error { return nil },
		Healed:  func(context.Context) error { return nil },
	}))
	if err != nil {
		t.Fatal(err)
	}
	if result.HealedSeconds == nil || result.Verdict != Pass || result.SwitchSeconds == nil || result.FailBackSeconds == nil || result.NoticedSeconds == nil {
		t.Errorf("%+v", result)
	}
}

// A mesh that never says what is broken fails the drill, whatever the requests did.
func TestRunFailsUnnoticed(t *testing.T) {
	s, url := newService(t)
	result, err := Run(t.Context(), testOptions(url, Scenario{
		Name:    "test",
		Break:   func(context.Context) error { s.cluster.Store("west"); return nil },
		Restore: func(context.Context) error { s.cluster.Store("east"); return nil },
		Noticed: func(context.Context) error { return errors.New("nothing was said") },
	}))
	if err != nil {
		t.Fatal(err)
	}
	if result.Verdict != Fail || len(result.Reasons) != 1 {
		t.Errorf("%s %q", result.Verdict, result.Reasons)
	}
}

// Answers that do not name their cluster are measured by failures alone.
func TestRunWithoutNames(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(srv.Close)
	nothing := func(context.Context) error { return nil }
	result, err := Run(t.Context(), testOptions(srv.URL, Scenario{Name: "test", Break: nothing, Restore: nothing}))
	if err != nil {
		t.Fatal(err)
	}
	if result.Verdict != Pass || result.Objectives.Home != "" {
		t.Errorf("%+v", result)
	}
}

// A service that goes away altogether fails the drill, and is restored.
func TestRunFailsAndRestores(t *testing.T) {
	s, url := newService(t)
	result, err := Run(t.Context(), testOptions(url, Scenario{
		Name:    "test",
		Break:   func(context.Context) error { s.cluster.Store(""); return nil },
		Restore: func(context.Context) error { s.cluster.Store("east"); return nil },
	}))
	if err != nil {
		t.Fatal(err)
	}
	if result.Verdict != Fail || s.cluster.Load() != "east" || result.Errors == 0 {
		t.Errorf("%+v", result)
	}
}

// Interrupted while broken, the drill restores all the same.
func TestRunRestoresWhenInterrupted(t *testing.T) {
	s, url := newService(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Run(ctx, testOptions(url, Scenario{
		Name:  "test",
		Break: func(context.Context) error { s.cluster.Store(""); cancel(); return nil },
		Restore: func(ctx context.Context) error {
			if ctx.Err() == nil {
				s.cluster.Store("east")
			}
			return ctx.Err()
		},
	}))
	if !errors.Is(err, context.Canceled) || s.cluster.Load() != "east" {
		t.Errorf("err %v, cluster %v", err, s.cluster.Load())
	}
}

// What is not safe is refused before anything is changed.
func TestRunRefusesUnsafe(t *testing.T) {
	_, url := newService(t)
	_, err := Run(t.Context(), testOptions(url, Scenario{
		Name:  "test",
		Check: func(context.Context) error { return ErrUnsafe },
		Break: func(context.Context) error { t.Error("broken"); return nil },
	}))
	if !errors.Is(err, ErrUnsafe) {
		t.Errorf("err %v", err)
	}
}

// A load that cannot be sent is an error with its reason, not a verdict.
func TestRunWithoutLoad(t *testing.T) {
	opts := testOptions("", Scenario{Name: "test", Break: func(context.Context) error { t.Error("broken"); return nil }})
	opts.Load = func(context.Context, func(load.Record)) error { return errors.New("no such pod") }
	if _, err := Run(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "no such pod") {
		t.Errorf("err %v", err)
	}
}

// What does not stay broken ends the drill, and the restore comes when nobody breaks any more.
func TestRunKeeps(t *testing.T) {
	s, url := newService(t)
	breaking := false
	scenario := Scenario{
		Name:  "test",
		Break: func(context.Context) error { s.cluster.Store("west"); return nil },
		Restore: func(context.Context) error {
			s.cluster.Store("east")
			if breaking {
				return errors.New("it is being broken still")
			}
			return nil
		},
		Keep: func(ctx context.Context) error {
			breaking = true
			<-ctx.Done()
			breaking = false
			return nil
		},
	}
	if result, err := Run(t.Context(), testOptions(url, scenario)); err != nil || result.Verdict != Pass {
		t.Errorf("%q, %v", result.Reasons, err)
	}
	lapsed := errors.New("it ended by itself")
	scenario.Keep = func(context.Context) error { return lapsed }
	if _, err := Run(t.Context(), testOptions(url, scenario)); !errors.Is(err, lapsed) || s.cluster.Load() != "east" {
		t.Errorf("err %v, cluster %v", err, s.cluster.Load())
	}
}
