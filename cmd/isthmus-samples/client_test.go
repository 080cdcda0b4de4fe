package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/drill/load"
)

// A client that lingers goes on for that long after a signal, and no longer.
func TestLingering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, signal := context.WithCancel(t.Context())
		ctx, stop := lingering(parent, 3*time.Second)
		defer stop()
		time.Sleep(time.Minute)
		signal()
		begin := time.Now()
		synctest.Wait()
		if ctx.Err() != nil {
			t.Fatal("it ended with the signal")
		}
		<-ctx.Done()
		if d := time.Since(begin); d != 3*time.Second {
			t.Errorf("it went on for %s", d)
		}
	})
}

// Records arrive while the client runs, whole lines of them, all before it ends; a reader that goes ends it.
func TestWatchClient(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	r, w := io.Pipe()
	opts := load.Options{URL: srv.URL, Rate: 100}
	done := make(chan error, 1)
	go func() { done <- watchClient(t.Context(), opts, w) }()
	lines := bufio.NewScanner(r)
	for n := range 30 {
		var rec load.Record
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &rec) != nil || rec.Kind != "" {
			t.Fatalf("line %d: %q, %v", n, lines.Text(), lines.Err())
		}
	}
	r.Close()
	if err := <-done; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("nobody reads: %v", err)
	}
	var out bytes.Buffer
	opts.Count = 7
	if err := watchClient(t.Context(), opts, &out); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 7 {
		t.Errorf("seven requests: %v\n%s", err, &out)
	}
}
