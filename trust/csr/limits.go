package csr

import (
	"cmp"
	"runtime"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits bounds what callers may cost.
type Limits struct {
	SourceRate  float64 // requests per second of one address; 0 means 50
	SourceBurst int     // 0 means 500
	CallerRate  float64 // requests per second of one workload; 0 means 5
	CallerBurst int     // 0 means 50: replicas that renew share an identity
	Keys        int     // addresses or workloads remembered; 0 means 16,384
	Signers     int     // signatures at once; 0 means one for each CPU
	Waiting     int     // requests waiting for a signer; 0 means 10,000
}

func (l Limits) withDefaults() Limits {
	return Limits{
		SourceRate:  cmp.Or(l.SourceRate, 50),
		SourceBurst: cmp.Or(l.SourceBurst, 500),
		CallerRate:  cmp.Or(l.CallerRate, 5),
		CallerBurst: cmp.Or(l.CallerBurst, 50),
		Keys:        cmp.Or(l.Keys, 16<<10),
		Signers:     cmp.Or(l.Signers, runtime.GOMAXPROCS(0)),
		Waiting:     cmp.Or(l.Waiting, 10_000),
	}
}

// limiter is a token bucket for each key. It holds at most max keys.
type limiter struct {
	rate  rate.Limit
	burst int
	max   int

	mu      sync.Mutex
	buckets map[string]*rate.Limiter
}

func newLimiter(perSecond float64, burst, maxKeys int) *limiter {
	return &limiter{rate: rate.Limit(perSecond), burst: burst, max: maxKeys, buckets: map[string]*rate.Limiter{}}
}

func (l *limiter) allow(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	bucket, ok := l.buckets[key]
	if !ok {
		if len(l.buckets) >= l.max {
			l.forget(now)
		}
		bucket = rate.NewLimiter(l.rate, l.burst)
		l.buckets[key] = bucket
	}
	return bucket.AllowN(now, 1)
}

// forget drops the full buckets, which say nothing, and where all are in use,
// some half of them: memory is bounded before fairness is.
func (l *limiter) forget(now time.Time) {
	for key, bucket := range l.buckets {
		if bucket.TokensAt(now) >= float64(l.burst) {
			delete(l.buckets, key)
		}
	}
	for key := range l.buckets {
		if len(l.buckets) <= l.max/2 {
			return
		}
		delete(l.buckets, key)
	}
}
