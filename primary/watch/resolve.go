package watch

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/ingest"
)

// Gateway hostnames are looked up anew this often, and sooner where it did not work.
const (
	resolveEvery   = 30 * time.Second
	resolveRetry   = 5 * time.Second
	resolveTimeout = 3 * time.Second
	mostLookups    = 16 // at once
)

// resolution is what is known of one gateway hostname.
type resolution struct {
	addrs  []netip.Addr // the last good answer
	next   time.Time    // when to ask again
	failed string       // the last error, "" when all is well
}

// setResolved gives the inputs what was found, and remembers which names are
// to be found.
func (w *Watcher) setResolved(ch *ingest.Changes) {
	hosts := w.inputs.GatewayHosts()
	w.mu.Lock()
	defer w.mu.Unlock()
	want := map[string]bool{}
	for _, h := range hosts {
		want[h] = true
		r, ok := w.resolved[h]
		if !ok {
			w.resolved[h] = r
		}
		w.inputs.SetResolved(h, r.addrs, ch)
	}
	for h := range w.resolved {
		if !want[h] {
			delete(w.resolved, h)
		}
	}
}

// resolve looks names up until ctx ends. A name that cannot be resolved keeps
// its last addresses.
func (w *Watcher) resolve(ctx context.Context) {
	for pause(ctx, time.Second) {
		var wg sync.WaitGroup
		places := make(chan struct{}, mostLookups) // one that does not answer holds up few others
		for _, host := range w.due(time.Now()) {
			places <- struct{}{}
			wg.Go(func() {
				defer func() { <-places }()
				w.lookUp(ctx, host)
			})
		}
		wg.Wait()
	}
}

func (w *Watcher) due(now time.Time) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for h, r := range w.resolved {
		if !now.Before(r.next) {
			out = append(out, h)
		}
	}
	return out
}

func (w *Watcher) lookUp(ctx context.Context, host string) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found, err := w.opts.LookUp(ctx, host)
	addrs := outside(found)
	if err == nil && len(addrs) == 0 {
		err = fmt.Errorf("none of its addresses %v can be a gateway's", found)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.resolved[host]
	if !ok {
		return // not wanted any more
	}
	if err != nil {
		if r.failed != err.Error() {
			w.opts.Log.Warn("resolve gateway; its last addresses stay", "host", host, "err", err)
		}
		r.next, r.failed = time.Now().Add(resolveRetry), err.Error()
	} else {
		r = resolution{addrs: addrs, next: time.Now().Add(resolveEvery)}
	}
	w.resolved[host] = r
	w.mark()
}

// outside drops addresses that lead to this machine or its metadata service: a
// name is another cluster's to choose.
func outside(found []netip.Addr) (addrs []netip.Addr) {
	for _, a := range found {
		a = a.Unmap()
		if a.IsGlobalUnicast() && a != netip.MustParseAddr("fd00:ec2::254") {
			addrs = append(addrs, a)
		}
	}
	return addrs
}
