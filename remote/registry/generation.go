package registry

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// generation is one client of a cluster with its probe and its reader. A
// rotated secret and the end of an outage make a new one.
type generation struct {
	m       *member
	cluster Cluster
	access  Access
	reader  Reader
	reading bool  // the reader runs; member.run's
	lastErr error // of the last probe; member.run's

	ctx    context.Context //nolint:containedctx // the generation's life, ended by stop
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// finding is what a generation tells its member.
type finding struct {
	gen      *generation
	at       time.Time // when the answer came
	identity identity
	err      error
	ended    bool // the reader gave up, with err
}

func newGeneration(m *member, access Access) (*generation, error) {
	client, err := access.connect(m.r.opts.AllowServers, m.gate)
	if err != nil {
		return nil, err
	}
	return &generation{m: m, cluster: Cluster{Name: m.name, Server: access.Server, Client: client}, access: access}, nil
}

// start probes after delay, until stop.
func (g *generation) start(ctx context.Context, delay time.Duration) {
	g.ctx, g.cancel = context.WithCancel(ctx)
	g.wg.Go(func() {
		if pause(g.ctx, delay) {
			newProber(g).run()
		}
	})
}

// read starts the reader.
func (g *generation) read() {
	g.reading = true
	g.reader = g.m.r.opts.Open(g.cluster)
	g.wg.Go(func() {
		err := g.reader.Run(g.ctx)
		if g.ctx.Err() == nil && err != nil {
			g.tell(finding{gen: g, err: err, ended: true})
		}
	})
}

func (g *generation) tell(f finding) {
	select {
	case g.m.found <- f:
	case <-g.ctx.Done():
	}
}

// stop ends everything of the generation and waits for it; a nil one is none.
func (g *generation) stop() {
	if g == nil {
		return
	}
	g.cancel()
	g.wg.Wait()
	closeClient(g.cluster.Client)
}

// syncedChan is closed when the reader has synced; nil before it runs.
func (g *generation) syncedChan() <-chan struct{} {
	if g == nil || !g.reading {
		return nil
	}
	return g.reader.Synced()
}

func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func jitter(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	return rand.N(most)
}
