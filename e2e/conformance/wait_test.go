//go:build conformance

package conformance

import (
	"cmp"
	"context"
	"time"
)

// eventually asks until there is no error.
func (f *fixture) eventually(what string, ask func(context.Context) error) {
	f.Helper()
	f.before(within, what, ask)
}

func (f *fixture) before(limit time.Duration, what string, ask func(context.Context) error) {
	f.Helper()
	var last error // said before time was up
	for end := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		ctx, cancel := context.WithDeadline(f.Context(), end)
		err := ask(ctx)
		over := ctx.Err() != nil
		cancel()
		switch {
		case err == nil:
			return
		case over:
			f.Fatalf("%s: not within %s: %v", what, limit, cmp.Or(last, err))
		}
		last = err
	}
}

// throughout asks for five seconds and fails at the first error.
func (f *fixture) throughout(what string, ask func(context.Context) error) {
	f.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err := ask(f.Context()); err != nil {
			f.Fatalf("%s: %v", what, err)
		}
	}
}
