package controllers

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// What concerns everything waits for what is urgent, and is done all the same, even
// while it is asked for again and again.
func TestSweepWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const all = 20
		var mu sync.Mutex
		var done []string
		l := &loop{name: "test", workers: 2, log: slog.New(slog.DiscardHandler), do: func(_ context.Context, key objectKey) error {
			time.Sleep(10 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			done = append(done, key.Name)
			return nil
		}}
		listed := 0
		list := func(context.Context) ([]objectKey, error) {
			var out []objectKey
			for i := range all {
				if listed > 0 {
					out = append(out, objectKey{Name: fmt.Sprintf("swept-%d", i)})
				}
			}
			listed++
			return out, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- l.run(ctx, list) }()
		synctest.Wait()
		l.again()
		time.Sleep(25 * time.Millisecond)
		for i := range 10 {
			l.add(objectKey{Name: fmt.Sprintf("urgent-%d", i)})
		}
		for range 20 {
			time.Sleep(20 * time.Millisecond)
			l.again()
		}
		time.Sleep(time.Second)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		urgent := func(name string) bool { return strings.HasPrefix(name, "urgent") }
		first := slices.IndexFunc(done, urgent)
		if n := slices.IndexFunc(done[first+10+l.workers:], urgent); n >= 0 { // but for what was being worked on
			t.Errorf("urgent keys waited: %v", done)
		}
		for i := range all {
			if name := fmt.Sprintf("swept-%d", i); !slices.Contains(done, name) {
				t.Errorf("%s was never reached", name)
			}
		}
	})
}
