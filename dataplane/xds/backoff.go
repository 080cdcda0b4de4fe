package xds

import (
	"math/rand/v2"
	"time"
)

// Limits of the wait between two streams.
const (
	backoffBase = 100 * time.Millisecond
	backoffMax  = 5 * time.Second
)

// backoff doubles its wait up to backoffMax, with jitter: each wait is between
// half of it and the whole, so that a thousand proxies do not come back together.
// The zero backoff is ready.
type backoff struct{ tries int }

func (b *backoff) next() time.Duration {
	d := backoffMax
	if b.tries < 6 {
		d = min(backoffBase<<b.tries, backoffMax)
		b.tries++
	}
	return d/2 + rand.N(d/2)
}

func (b *backoff) reset() { b.tries = 0 }
