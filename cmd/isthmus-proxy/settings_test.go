package main

import (
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// The entry gateway goes on accepting until slices have been followed.
func TestDrainDelay(t *testing.T) {
	for _, c := range []struct {
		role role
		args []string
		env  string // $ISTHMUS_GATEWAY
		want time.Duration
	}{
		{roleSidecar, nil, "", 0},
		{roleGateway, nil, "", 3 * time.Second},
		{roleGateway, []string{"--kind=entry"}, "", 30 * time.Second},
		{roleGateway, nil, "entry", 30 * time.Second},
		{roleGateway, []string{"--kind=east-west"}, "entry", 3 * time.Second},
		{roleGateway, []string{"--kind=entry", "--drain-delay=0s"}, "", 0},
		{roleSidecar, []string{"--drain-delay=7s"}, "", 7 * time.Second},
	} {
		s, f := settings{role: c.role}, pflag.NewFlagSet("", pflag.ContinueOnError)
		s.flags(f, func(name string) string { return map[string]string{"ISTHMUS_GATEWAY": c.env}[name] })
		if err := f.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		if s.fill(f); s.drainDelay != c.want {
			t.Errorf("%d %v, %q: %v, want %v", c.role, c.args, c.env, s.drainDelay, c.want)
		}
	}
}
