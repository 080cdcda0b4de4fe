package load

import (
	"net/http/httptrace"
	"sync/atomic"
)

// stage is how far an HTTP request came: what a timeout means depends on it. Its zero value is a request that waits for
// a connection. A connection may still be opened for a request that has got another, or has ended.
type stage struct{ at atomic.Pointer[string] }

func (s *stage) trace() *httptrace.ClientTrace {
	open := func(text string) { // a connection; the one that the request gets may be another
		if last := s.at.Load(); last == nil || *last == stageName || *last == stageDial {
			s.at.Store(&text)
		}
	}
	return &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { open(stageName) },
		DNSDone: func(d httptrace.DNSDoneInfo) {
			if d.Err == nil {
				open(stageDial)
			}
		},
		GotConn: func(c httptrace.GotConnInfo) {
			text := "on a new connection"
			if c.Reused {
				text = "on a connection that was used before"
			}
			s.at.Store(&text)
		},
	}
}

const (
	stageName = "while the name was looked up"
	stageDial = "while connecting"
)

func (s *stage) text() string {
	if at := s.at.Load(); at != nil {
		return *at
	}
	return "while waiting for a connection"
}
