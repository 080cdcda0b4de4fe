package main

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/drill/load"
)

var testSelf = self{Service: "echo", Version: "v1", Cluster: "east", Pod: "echo-0"}

// serveForTest runs serve on a loopback port until the test ends.
func serveForTest(t *testing.T, serve func(context.Context, net.Listener) error) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l, err := listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("server: %v", err)
			}
		case <-time.After(15 * time.Second):
			t.Error("the server did not end")
		}
	})
	return l.Addr().String()
}

// The client understands what the echo server says over every protocol.
func TestClientAndEcho(t *testing.T) {
	httpAddr := serveForTest(t, func(ctx context.Context, l net.Listener) error { return serveHTTP(ctx, l, echoHandler(testSelf), 0) })
	tcpAddr := serveForTest(t, func(ctx context.Context, l net.Listener) error { return serveTCP(ctx, l, testSelf, false) })
	bannerAddr := serveForTest(t, func(ctx context.Context, l net.Listener) error { return serveTCP(ctx, l, testSelf, true) })

	for _, url := range []string{"http://" + httpAddr + "/any", "grpc://" + httpAddr, "tcp://" + tcpAddr, "banner://" + bannerAddr} {
		t.Run(url[:4], func(t *testing.T) {
			var records []load.Record
			err := load.Run(t.Context(), load.Options{URL: url, Rate: 200, Count: 5, Timeout: 10 * time.Second}, func(r load.Record) { records = append(records, r) })
			if err != nil {
				t.Fatal(err)
			}
			if len(records) != 5 {
				t.Fatalf("%d records", len(records))
			}
			for _, r := range records {
				if !r.OK() || r.Answer != testSelf.answer() {
					t.Errorf("record %+v", r)
				}
			}
		})
	}
}

// A TCP echo keeps the rest of what it was sent.
func TestTCPEchoes(t *testing.T) {
	addr := serveForTest(t, func(ctx context.Context, l net.Listener) error { return serveTCP(ctx, l, testSelf, true) })
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	want := testSelf.answer().Banner() + "one\ntwo\n"
	if _, err := conn.Write([]byte("one\ntwo\n")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 0, len(want))
	for len(got) < len(want) {
		buf := make([]byte, len(want)-len(got))
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:n]...)
	}
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Requests that come after the signal to end are answered for a while.
func TestServerLingers(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l, err := listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- serveHTTP(ctx, l, echoHandler(testSelf), time.Second) }()
	cancel()
	var records []load.Record
	opts := load.Options{URL: "http://" + l.Addr().String(), Rate: 100, Count: 5, NewConnections: true}
	if err := load.Run(t.Context(), opts, func(r load.Record) { records = append(records, r) }); err != nil {
		t.Fatal(err)
	}
	if s := load.Summarize(records); s.OK != 5 {
		t.Errorf("%+v", s)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
