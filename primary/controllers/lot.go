package controllers

import (
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/controllers/allot"
)

// lot is a pool whose keys are an import and something of it.
type lot struct {
	pool *allot.Pool
	of   map[objectKey]map[string]bool // what each import holds numbers for
}

func newLot(first, last int, rest time.Duration) *lot {
	pool := allot.New(first, last, rest)
	pool.Halve()
	return &lot{pool, map[objectKey]map[string]bool{}}
}

// take gives a number that counts for the share of cluster of.
func (l *lot) take(key objectKey, suffix string, of federation.ClusterName, now time.Time) (int, error) {
	number, err := l.pool.Take(key.String()+"/"+suffix, string(of), now)
	if err == nil {
		l.note(key, suffix)
	}
	return number, err
}

// hold is take for what was found to be given already.
func (l *lot) hold(key objectKey, suffix string, of federation.ClusterName, number int) bool {
	ok := l.pool.Hold(key.String()+"/"+suffix, string(of), number)
	if ok {
		l.note(key, suffix)
	}
	return ok
}

func (l *lot) note(key objectKey, suffix string) {
	if l.of[key] == nil {
		l.of[key] = map[string]bool{}
	}
	l.of[key][suffix] = true
}

// giveBack gives up what key holds and does not keep, and reports whether there
// was anything.
func (l *lot) giveBack(key objectKey, keep func(suffix string) bool, now time.Time) (gave bool) {
	for suffix := range l.of[key] {
		if keep(suffix) {
			continue
		}
		gave = l.pool.Give(key.String()+"/"+suffix, now) || gave
		delete(l.of[key], suffix)
	}
	if len(l.of[key]) == 0 {
		delete(l.of, key)
	}
	return gave
}
