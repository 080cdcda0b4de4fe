package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
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

// When entry gateways come or go, the imports that use them are not left to the
// sweep, which goes on after a list that failed.
func TestEntriesAreUrgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const all = 1000
		at := map[string]time.Duration{}
		var mu sync.Mutex
		n := newNumbers(api.PortRange{First: 20000, Last: 29999}, range4{}, &book{})
		n.settle(reviewsKey, ports(80), noon)
		r := &Imports{cluster: "east", numbers: n}
		began := time.Now()
		r.loop = &loop{name: "test", workers: 1, log: slog.New(slog.DiscardHandler), do: func(_ context.Context, key objectKey) error {
			mu.Lock()
			defer mu.Unlock()
			at[key.Name] = time.Since(began)
			return nil
		}}
		listed := 0
		list := func(context.Context) (out []objectKey, err error) {
			if listed++; listed == 2 {
				return nil, errors.New("no API server")
			}
			for i := range all {
				if listed > 1 {
					out = append(out, objectKey{Name: fmt.Sprintf("swept-%d", i)})
				}
			}
			return append(out, reviewsKey), nil
		}
		r.Update(snapshot([]*federation.Cluster{cluster("east", "net1", entries("10.1.9.1"))}))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.loop.run(ctx, list) }()
		synctest.Wait()
		time.Sleep(time.Second)
		mu.Lock()
		began = time.Now()
		delete(at, reviewsKey.Name)
		mu.Unlock()
		r.Update(snapshot([]*federation.Cluster{cluster("east", "net1", entries("10.1.9.2"))}))
		synctest.Wait()
		mu.Lock()
		took, done := at[reviewsKey.Name]
		mu.Unlock()
		if !done || took > 0 {
			t.Errorf("the import with an entry port waits: %v, %v", took, done)
		}
		time.Sleep(10 * time.Second)
		cancel()
		if err := <-ended; err != nil || len(at) != all+1 {
			t.Errorf("%d reached after a list that failed, %v", len(at), err)
		}
	})
}
