package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
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
