package watch

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/ingest"
)

// Gateway hostnames are looked up anew this often, and sooner where it did not work.
const (
	resolveEvery   = 30 * time.Second
	resolveRetry   = 5 * time.Second
	resolveTimeout = 3 * time.Second
)

// resolution is what is known of one gateway hostname.
type resolution struct {
	addrs []netip.Addr // the last good answer
	next  time.Time    // when to ask again
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
		for _, host := range w.due(time.Now()) {
			w.lookUp(ctx, host)
		}
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
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.resolved[host]
	if !ok {
		return // not wanted any more
	}
	if err != nil {
		w.opts.Log.Warn("resolve gateway", "host", host, "err", err)
		r.next = time.Now().Add(resolveRetry)
	} else {
		r.addrs, r.next = nil, time.Now().Add(resolveEvery)
		for _, a := range addrs {
			r.addrs = append(r.addrs, a.Unmap())
		}
	}
	w.resolved[host] = r
	w.mark()
}
