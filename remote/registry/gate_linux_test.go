package registry

import (
	"context"
	"errors"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// read makes one request by the client that the cluster's reader has.
func read(t *testing.T, rec *recorder, cluster string, patience time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := rec.current(cluster)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.Server+"/version", nil)
	must(t, err)
	resp, err := r.Client.Do(req)
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// A drill has one API server seem lost: what is open breaks, as what is new, and no other cluster's; the status
// says that it is a drill. Everything is as before when it ends.
func TestFaults(t *testing.T) {
	r, rec, namespace := running(t)
	west, north := newRemoteServer(t, "uid-west"), newRemoteServer(t, "uid-north")
	apply(t, namespace, west.secret(t, "west", "west", "t"))
	apply(t, namespace, north.secret(t, "north", "north", "t"))
	for _, name := range []string{"west", "north"} {
		until(t, r, name+" read", func() bool { s := status(r, name); return s.Synced && s.Reachable && s.Fault == "" })
		must(t, read(t, rec, name, 10*time.Second))
	}
	for mode, is := range map[string]error{"drop": context.DeadlineExceeded, "refuse": syscall.ECONNREFUSED} {
		t.Run(mode, func(t *testing.T) {
			r.SetFaults(map[string]Fault{"west": {mode, time.Minute, time.Now().UnixNano()}})
			if got := status(r, "west").Fault; got != mode {
				t.Errorf("the status says %q", got)
			}
			if err := read(t, rec, "west", time.Second); !errors.Is(err, is) {
				t.Errorf("by a connection that is open: %v", err)
			}
			rec.current("west").Client.CloseIdleConnections()
			if err := read(t, rec, "west", time.Second); !errors.Is(err, is) {
				t.Errorf("by a new connection: %v", err)
			}
			until(t, r, "west unreachable", func() bool { return !status(r, "west").Reachable })
			if s := status(r, "north"); !s.Reachable || s.Fault != "" || read(t, rec, "north", 10*time.Second) != nil {
				t.Errorf("north suffers: %+v", s)
			}
			swaps := rec.count(rec.swaps, "west")
			r.SetFaults(nil)
			until(t, r, "west back, with a fresh reader", func() bool {
				s := status(r, "west")
				return s.Reachable && s.Fault == "" && rec.count(rec.swaps, "west") > swaps
			})
			must(t, read(t, rec, "west", 10*time.Second))
		})
	}
}

// A fault ends by itself when nobody renews it, and saying the same again is no renewal. What is not one is none.
func TestFaultEnds(t *testing.T) {
	r, rec, namespace := running(t)
	west := newRemoteServer(t, "uid-west")
	apply(t, namespace, west.secret(t, "west", "west", "t"))
	until(t, r, "west read", func() bool { return status(r, "west").Synced })
	began := time.Now()
	once := map[string]Fault{"west": {"refuse", time.Second, 1}}
	until(t, r, "the fault ends", func() bool {
		r.SetFaults(once)
		return time.Since(began) > 500*time.Millisecond && status(r, "west").Fault == ""
	})
	must(t, read(t, rec, "west", 10*time.Second))
	r.SetFaults(map[string]Fault{"west": {"refuse", time.Second, 2}})
	if got := status(r, "west").Fault; got != "refuse" {
		t.Errorf("renewed, it says %q", got)
	}
	for _, bad := range []Fault{{"melt", time.Second, 3}, {"drop", 0, 4}, {"drop", time.Hour, 5}} {
		r.SetFaults(map[string]Fault{"west": bad})
		if got := status(r, "west").Fault; got != "" {
			t.Errorf("%v: it says %q", bad, got)
		}
	}
}

// A cluster that is linked while a drill wants it out of order is so from the start.
func TestFaultBeforeLink(t *testing.T) {
	r, _, namespace := running(t)
	west := newRemoteServer(t, "uid-west")
	r.SetFaults(map[string]Fault{"west": {"refuse", time.Minute, 1}})
	apply(t, namespace, west.secret(t, "west", "west", "t"))
	until(t, r, "west refuses", func() bool {
		s := status(r, "west")
		return s.Fault == "refuse" && s.Message != "" && west.hits.Load() == 0
	})
	r.SetFaults(map[string]Fault{})
	until(t, r, "west read", func() bool { return status(r, "west").Synced })
}
