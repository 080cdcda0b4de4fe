package controllers

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
)

// loop works off keys: each at most once at a time, again after a growing pause
// where it failed. Keys may be added at any time, also before and after run.
type loop struct {
	name    string
	workers int
	do      func(ctx context.Context, key objectKey) error
	log     *slog.Logger

	mu    sync.Mutex
	all   chan struct{}                                   // of one: everything is to be listed again
	queue workqueue.TypedRateLimitingInterface[objectKey] // nil while not running
}

// lateGap is how long the loop waits at least between two keys that are not
// urgent.
const lateGap = 2 * time.Millisecond

// listAgain is how long the loop waits before it lists again what it could not.
const listAgain = time.Second

// add marks key dirty. While the loop does not run nothing is kept: run begins
// with everything.
func (l *loop) add(key objectKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue != nil {
		l.queue.Add(key)
	}
}

// again marks everything that run's list returns as dirty, for when there is
// nothing else to do. It does not block.
func (l *loop) again() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue == nil {
		return
	}
	select {
	case l.all <- struct{}{}:
	default:
	}
}

// run works until ctx ends, beginning with what all returns.
func (l *loop) run(ctx context.Context, all func(context.Context) ([]objectKey, error)) error {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[objectKey](50*time.Millisecond, 30*time.Second))
	l.mu.Lock()
	l.queue, l.all = queue, make(chan struct{}, 1)
	again := l.all
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.queue = nil
	}()
	keys, err := all(ctx)
	if err != nil {
		queue.ShutDown()
		return fmt.Errorf("%s: list: %w", l.name, err)
	}
	for _, key := range keys {
		queue.Add(key)
	}
	var workers sync.WaitGroup
	for range l.workers {
		workers.Go(func() {
			for l.next(ctx, queue) {
			}
		})
	}
	defer workers.Wait()
	defer queue.ShutDown()
	return l.sweep(ctx, queue, again, all)
}

// sweep feeds the queue with what all returns whenever that is asked for: one key
// at a time and only while there is nothing else to do, so that what concerns all
// of them holds up nobody.
func (l *loop) sweep(ctx context.Context, queue workqueue.TypedRateLimitingInterface[objectKey], again <-chan struct{}, all func(context.Context) ([]objectKey, error)) error {
	var late []objectKey // in turn, each once: asked for often, all are reached nevertheless
	waits := map[objectKey]bool{}
	list := func() (retry <-chan time.Time) {
		keys, err := all(ctx)
		if err != nil {
			if ctx.Err() == nil {
				l.log.Warn("list", "controller", l.name, "err", err)
			}
			return time.After(listAgain)
		}
		for _, key := range keys {
			if !waits[key] {
				waits[key] = true
				late = append(late, key)
			}
		}
		return nil
	}
	var retry <-chan time.Time
	for {
		var next <-chan time.Time
		if len(late) > 0 {
			next = time.After(lateGap)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-next:
			if queue.Len() == 0 {
				queue.Add(late[0])
				delete(waits, late[0])
				late = late[1:]
			}
		case <-again:
			retry = list()
		case <-retry:
			retry = list()
		}
	}
}

// next works off one key and reports whether there may be another.
func (l *loop) next(ctx context.Context, queue workqueue.TypedRateLimitingInterface[objectKey]) bool {
	key, shutdown := queue.Get()
	if shutdown {
		return false
	}
	defer queue.Done(key)
	if ctx.Err() != nil {
		return true // only drained
	}
	if err := l.do(ctx, key); err != nil && ctx.Err() == nil {
		l.log.Warn("reconcile", "controller", l.name, "object", key.String(), "err", err)
		queue.AddRateLimited(key)
		return true
	}
	queue.Forget(key)
	return true
}
