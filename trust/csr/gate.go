package csr

import (
	"context"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// gate lets a number of callers work at once. The others wait in order of
// arrival, those with precedence before the rest; a full queue refuses.
type gate struct {
	waitingMost int

	mu            sync.Mutex
	free          int
	first, second []chan struct{} // waiting; closed when let in
}

func newGate(places, waiting int) *gate { return &gate{free: places, waitingMost: waiting} }

// enter waits for a place. Without an error the caller must leave.
func (g *gate) enter(ctx context.Context, precedence bool) error {
	g.mu.Lock()
	if g.free > 0 {
		g.free--
		g.mu.Unlock()
		return nil
	}
	queue := &g.second
	if precedence {
		queue = &g.first
	}
	if len(*queue) >= g.waitingMost {
		g.mu.Unlock()
		return status.Error(codes.ResourceExhausted, "too many requests are waiting")
	}
	turn := make(chan struct{})
	*queue = append(*queue, turn)
	g.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		g.giveUp(turn)
		return status.FromContextError(ctx.Err()).Err()
	}
}

// giveUp leaves the queue, or gives back a place that came at the last moment.
func (g *gate) giveUp(turn chan struct{}) {
	g.mu.Lock()
	for _, queue := range []*[]chan struct{}{&g.first, &g.second} {
		if i := slices.Index(*queue, turn); i >= 0 {
			*queue = slices.Delete(*queue, i, i+1)
			g.mu.Unlock()
			return
		}
	}
	g.mu.Unlock()
	g.leave()
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, queue := range []*[]chan struct{}{&g.first, &g.second} {
		if len(*queue) > 0 {
			close((*queue)[0])
			*queue = (*queue)[1:]
			return
		}
	}
	g.free++
}
