package server

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"testing"
	"time"
)

// A connection serves until it is too old, and its last answer says so: the client opens another one, and never sends on one that goes.
func TestAging(t *testing.T) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	for _, test := range []struct {
		age    time.Duration
		reused bool
	}{{time.Hour, true}, {0, false}} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- serveHTTP(l, aging(answer, test.age))(ctx) }()
		client := &http.Client{Transport: &http.Transport{}}
		for n := range 3 {
			var conn httptrace.GotConnInfo
			traced := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { conn = c }})
			req, err := http.NewRequestWithContext(traced, http.MethodPost, "http://"+l.Addr().String(), http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if string(body) != "ok" || err != nil {
				t.Errorf("answer %q, %v", body, err)
			}
			if want := test.reused && n > 0; conn.Reused != want || res.Close == test.reused {
				t.Errorf("age %s, request %d: on a connection used before: %v, want %v; the answer ends it: %v", test.age, n+1, conn.Reused, want, res.Close)
			}
		}
		client.CloseIdleConnections()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
