package controllers

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// A prober that had no processor while it waited says nothing of a gateway; one
// that was on time says that it is silent after three misses, within 3.5 s.
func TestStarvedProber(t *testing.T) {
	for name, test := range map[string]struct {
		takes  time.Duration // of a probe that does not succeed
		silent bool
	}{
		"on time":      {probeTimeout, true},
		"a bit late":   {probeTimeout + probeInterval/5, true},
		"without time": {probeTimeout + probeInterval + time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				at := target{"west", netip.MustParseAddrPort("192.0.2.2:15443")}
				p := &Prober{log: slog.New(slog.DiscardHandler), changed: func() {}, targets: map[target]probeState{at: {}}}
				p.probe = func(context.Context, target) error {
					time.Sleep(test.takes)
					return errors.New("no answer")
				}
				go p.watch(ctx, at)
				time.Sleep(4 * time.Second)
				if got := p.gateways("west")[at.addr.String()].Silent; got != test.silent {
					t.Errorf("silent: %t, want %t", got, test.silent)
				}
				cancel()
				time.Sleep(4 * time.Second) // the last probe ends
			})
		})
	}
	now := time.Now()
	if starved(now, now.Add(probeInterval)) || !starved(now, now.Add(probeInterval+1)) {
		t.Error("late by more than an interval is starved, and no less")
	}
}
