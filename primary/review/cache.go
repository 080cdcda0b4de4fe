package review

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/trust/csr"
)

// maxAnswers bounds the answers kept.
const maxAnswers = 16 << 10

// cache holds good answers for a short time, by the token's hash: the token
// itself is kept nowhere.
type cache struct {
	ttl time.Duration

	mu      sync.Mutex
	answers map[[sha256.Size]byte]answer
	swept   time.Time
}

type answer struct {
	reviewed csr.Reviewed
	asked    time.Time
}

func newCache(ttl time.Duration) *cache {
	return &cache{ttl: ttl, answers: map[[sha256.Size]byte]answer{}}
}

func (c *cache) get(token string, now time.Time) (csr.Reviewed, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.answers[sha256.Sum256([]byte(token))]
	return known.reviewed, ok && now.Sub(known.asked) < c.ttl
}

// put keeps an answer from the time at which it was asked for. A full cache
// keeps no more: it is a help, not a promise.
func (c *cache) put(token string, reviewed csr.Reviewed, asked time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if asked.Sub(c.swept) >= c.ttl {
		c.swept = asked
		for key, known := range c.answers {
			if asked.Sub(known.asked) >= c.ttl {
				delete(c.answers, key)
			}
		}
	}
	if len(c.answers) < maxAnswers {
		c.answers[sha256.Sum256([]byte(token))] = answer{reviewed, asked}
	}
}
