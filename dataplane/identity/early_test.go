package identity

import (
	"context"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// At a first install pods start before isthmusd: its name is not there, then its
// port refuses. The identity comes within the connection's own backoff after it
// is up, not with the next, much later attempt.
func TestControlPlaneALittleLate(t *testing.T) {
	t.Parallel()
	c := newControl(t, 0)
	c.start(t)
	opts := c.options(t)
	var mu sync.Mutex
	var dials []time.Time
	opts.Dial = func(ctx context.Context, address string) (net.Conn, error) {
		mu.Lock()
		dials = append(dials, time.Now())
		n := len(dials)
		mu.Unlock()
		switch {
		case n <= 2:
			return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: address, IsNotFound: true}}
		case n <= 4:
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}
	i, _ := run(t, opts)
	ready(t, i)
	done := time.Now()
	mu.Lock()
	defer mu.Unlock()
	for n, most := range []time.Duration{300, 600, 1200, 2400} { // 0.2 s, 0.4 s, ... and jitter; the rest is for a loaded machine
		if gap := dials[n+1].Sub(dials[n]); gap < 100*time.Millisecond || gap > most*time.Millisecond+time.Second {
			t.Errorf("dial %d came %s after the one before", n+2, gap)
		}
	}
	if late := done.Sub(dials[4]); len(dials) != 5 || late > time.Second {
		t.Errorf("%d dials; the identity came %s after the one that was accepted", len(dials), late)
	}
}
