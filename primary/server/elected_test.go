package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/isthmus-mesh/isthmus/federation"
)

// memory is a Lease that only this test sees.
type memory struct {
	mu     sync.Mutex
	record *resourcelock.LeaderElectionRecord
}

func (m *memory) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.record == nil {
		return nil, nil, apierrors.NewNotFound(schema.GroupResource{Resource: "leases"}, "isthmusd")
	}
	raw, err := json.Marshal(m.record)
	return m.record, raw, err
}

func (m *memory) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return m.Update(ctx, r)
}

func (m *memory) Update(_ context.Context, r resourcelock.LeaderElectionRecord) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.record = &r
	return nil
}

func (m *memory) holder() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.record == nil {
		return ""
	}
	return m.record.HolderIdentity
}

func (*memory) RecordEvent(string) {}
func (*memory) Identity() string   { return "a" }
func (*memory) Describe() string   { return "a lease in memory" }

// slow is a controller in the midst of a write when it is told to end.
type slow struct{ runs, ends chan struct{} }

func (*slow) Update(*federation.Snapshot) {}

func (s *slow) Run(ctx context.Context) error {
	close(s.runs)
	<-ctx.Done()
	<-s.ends
	return nil
}

// The Lease is held until the controllers have ended, so that the next leader
// does not write beside them. (faults 15)
func TestLeaseOutlivesControllers(t *testing.T) {
	lock, c := &memory{}, &slow{runs: make(chan struct{}), ends: make(chan struct{})}
	e := &elected{log: slog.New(slog.DiscardHandler), lock: lock, controllers: map[string]controller{"slow": c}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.term(ctx) }()
	wait(t, "the controller runs", c.runs)
	cancel()
	// Were the Lease let go at once, it would be within this time.
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if lock.holder() != "a" {
			t.Fatal("the lease is free while a controller runs")
		}
	}
	close(c.ends)
	if err := wait(t, "the term ends", done); err != nil {
		t.Error(err)
	}
	if got := lock.holder(); got != "" {
		t.Errorf("the lease is held by %q after the end", got)
	}
}

// Who is told to end while he does not lead, ends.
func TestEndWithoutLeading(t *testing.T) {
	lock := &memory{record: &resourcelock.LeaderElectionRecord{HolderIdentity: "b", LeaseDurationSeconds: 3600}}
	e := &elected{log: slog.New(slog.DiscardHandler), lock: lock, controllers: map[string]controller{}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.term(ctx) }()
	cancel()
	if err := wait(t, "the term ends", done); err != nil {
		t.Error(err)
	}
	if got := lock.holder(); got != "b" {
		t.Errorf("the lease is held by %q", got)
	}
}

func wait[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("not within 20 s: %s", what)
		panic("unreachable")
	}
}
