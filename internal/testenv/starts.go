package testenv

import (
	"slices"
	"sync"
	"time"
)

// logDelay is the time in which an answer has been logged.
const logDelay = time.Second

// A span is the time from the start of an API server until it was ready.
type span struct{ begin, ready time.Time }

// starts are those of all API servers of this process: a log tells when it was
// answered, but not always by which.
var starts struct {
	sync.Mutex
	spans []span
}

func noteStart(begin time.Time) {
	starts.Lock()
	defer starts.Unlock()
	starts.spans = append(starts.spans, span{begin, time.Now()})
}

// Starting reports whether an API server of this process was starting when
// somebody logged its answer at at. Until one is ready it may not have read every
// role, and answers Forbidden to an account that has the right.
func Starting(at time.Time) bool {
	starts.Lock()
	defer starts.Unlock()
	return slices.ContainsFunc(starts.spans, func(s span) bool { return !at.Before(s.begin) && at.Before(s.ready.Add(logDelay)) })
}
