package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A control plane that is told to end goes on for the delay, and no longer.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outer, stop := context.WithCancel(t.Context())
		ctx := linger(outer, 5*time.Second)
		begin := time.Now()
		stop()
		synctest.Wait()
		if ctx.Err() != nil {
			t.Error("it ended at once")
		}
		<-ctx.Done()
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("it ended after %s", took)
		}
	})
}

// A flag that cannot be used is named, with what is wrong, before anything else
// is looked at.
func TestBadFlags(t *testing.T) {
	for flag, says := range map[string]string{
		"--entry-ports=20000":          "--entry-ports: not a range of ports",
		"--entry-ports=14000-16000":    "\"14000-16000\" holds ports from 15000 to 15099",
		"--entry-from=10.0.0.0":        "--entry-from: \"10.0.0.0\" is not an address range",
		"--entry-from=0.0.0.0/0":       "no open relay",
		"--synthetic-range=fd00::/64":  "--synthetic-range: \"fd00::/64\" is not IPv4",
		"--lease=soon":                 "--lease",
		"--log-level=loud":             "--log-level",
		"--trust-domain=Not_A_Domain!": "domain",
	} {
		cmd := newCommand()
		cmd.SetArgs([]string{flag})
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", flag, err, says)
		}
	}
}
