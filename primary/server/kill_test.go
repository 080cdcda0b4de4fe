package server_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/testenv"
	"github.com/isthmus-mesh/isthmus/remote/join"
)

// Sizes of TestKilledControlPlanes. The full size is what the project promises
// and takes about two minutes; ISTHMUS_KILLS=50 asks for it, as .ci does.
const (
	killsVariable  = "ISTHMUS_KILLS"
	seedVariable   = "ISTHMUS_SEED" // of a run that is to be repeated
	fewKills       = 10
	changesPerKill = 10
	gap            = 120 * time.Millisecond // between two changes, on average
)

// Two control planes, linked both ways, are killed at random moments amid changes
// of exports, services, endpoints and namespaces. In the end each cluster holds
// what the exports say and nothing else: no Service, slice or import is left over
// or missing, no entry port or synthetic address stands for two things, and the
// imports that lived through it have their addresses.
func TestKilledControlPlanes(t *testing.T) {
	kills, seed := number(t, killsVariable, fewKills), uint64(number(t, seedVariable, int(time.Now().UnixNano()>>10)))
	t.Logf("%d kills, %d changes; to repeat: %s=%d", kills, kills*changesPerKill, seedVariable, seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, rng, testenv.Start(t), testenv.Start(t))
	root := newRoot(t)
	var planes []*plane
	for _, c := range w.clusters {
		planes = append(planes, newPlane(t, c.env, c.name, caFolder(t, root, c.name)))
	}
	linkBothWays(t, w.clusters[0], w.clusters[1])
	for _, p := range planes {
		p.start()
	}
	w.settle(planes)
	before := w.addresses()

	when := map[int]int{} // kills after the nth change; some are close together
	for range kills {
		when[rng.IntN(kills*changesPerKill)]++
	}
	began, leading := time.Now(), 0
	for i := range kills * changesPerKill {
		w.change()
		pause(t, rng, gap)
		for range when[i] {
			victim := planes[rng.IntN(len(planes))]
			if victim.led() {
				leading++
			}
			victim.kill()
			victim.start()
			pause(t, rng, gap)
		}
	}
	t.Logf("%d kills in %v, %d of a control plane that led", kills, time.Since(began).Round(time.Second), leading)
	if leading < kills/3 {
		t.Errorf("of %d kills only %d were of one that led: this proves little", kills, leading)
	}
	w.settle(planes)
	for key, was := range before {
		if now := w.addresses()[key]; now != was {
			t.Errorf("%s was %s and is %s", key, was, now)
		}
	}
	w.unmovedByRestart(planes)
	for _, p := range planes {
		p.kill()
		p.checkLog()
	}
}

// number reads a variable, or returns otherwise.
func number(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is no number", variable, text)
	}
	return n
}

// pause lets up to twice the time pass: moments are what this test is about.
func pause(t *testing.T, rng *rand.Rand, mean time.Duration) {
	select {
	case <-t.Context().Done():
	case <-time.After(time.Duration(rng.Int64N(int64(2 * mean)))):
	}
}

func linkBothWays(t *testing.T, a, b *clusterWorld) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	side := func(c *clusterWorld) join.Side {
		return join.Side{Context: c.name, Config: c.env.Config, Cluster: c.name, Server: c.env.Config.Host}
	}
	for _, pair := range [][2]*clusterWorld{{a, b}, {b, a}} {
		if err := join.Link(ctx, side(pair[0]), side(pair[1]), join.Options{AllowServers: []string{"127.0.0.1"}}); err != nil {
			t.Fatal(fmt.Errorf("link %s to %s: %w", pair[0].name, pair[1].name, err))
		}
	}
}
