package upstream

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
)

// levels makes an assignment; each inner slice is the health of a priority's hosts.
func levels(over uint32, priorities ...[]config.Health) *config.Assignment {
	a := &config.Assignment{Overprovision: over}
	port := uint16(1)
	for _, hosts := range priorities {
		l := config.Locality{Weight: 1}
		for _, h := range hosts {
			l.Hosts = append(l.Hosts, config.Host{Addr: netip.AddrPortFrom(netip.IPv6Loopback(), port), Weight: 1, Health: h})
			port++
		}
		a.Priorities = append(a.Priorities, config.Priority{Localities: []config.Locality{l}})
	}
	return a
}

// The share of each priority is Envoy's.
func TestLoads(t *testing.T) {
	const ok, bad = config.Healthy, config.Unhealthy
	for _, c := range []struct {
		a    *config.Assignment
		want []int
	}{
		{levels(100, []config.Health{ok, ok}, []config.Health{ok}), []int{100, 0}},
		{levels(100, []config.Health{ok, bad}, []config.Health{ok}), []int{50, 50}},
		{levels(140, []config.Health{ok, ok, ok, bad}, []config.Health{ok}), []int{100, 0}},
		{levels(140, []config.Health{ok, bad}, []config.Health{ok}), []int{70, 30}},
		{levels(100, []config.Health{bad}, []config.Health{ok}), []int{0, 100}},
		{levels(100, []config.Health{ok, bad, bad, bad}, []config.Health{ok, bad, bad, bad}), []int{50, 50}},
		{levels(100, []config.Health{}, []config.Health{ok}), []int{0, 100}},
		{levels(100, []config.Health{bad}), []int{0}},
	} {
		cl := newCluster(&config.Cluster{Name: "c"}, &Dialer{})
		cl.assign(c.a, nil)
		cl.refresh(time.Now())
		got := cl.loads(classHealthy, func(p int) bool { return cl.levels[p].counts[classHealthy] > 0 })
		if !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.a.Priorities, got, c.want)
		}
	}
}

// Not every proxy begins with the same host after a change.
func TestFirstPick(t *testing.T) {
	const ok = config.Healthy
	first := map[netip.AddrPort]int{}
	for range 100 {
		cl := newCluster(&config.Cluster{Name: "c"}, &Dialer{})
		cl.assign(levels(100, []config.Health{ok, ok, ok, ok}), nil)
		h, err := cl.Pick(time.Now(), &Tried{})
		if err != nil {
			t.Fatal(err)
		}
		first[h.Addr]++
	}
	if len(first) != 4 {
		t.Errorf("%v", first)
	}
}

// Attempts go to hosts and priorities not tried yet, then to whatever there is.
func TestPickTried(t *testing.T) {
	const ok = config.Healthy
	cl := newCluster(&config.Cluster{Name: "c"}, &Dialer{})
	cl.assign(levels(100, []config.Health{ok, ok}, []config.Health{ok}), nil)
	var tried Tried
	var order []string
	for range 3 {
		h, err := cl.Pick(time.Now(), &tried)
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, fmt.Sprint(cl.priorities()[h]))
		tried.Exclude()
	}
	if len(tried.Hosts) != 3 || order[0] != "0" || order[1] != "1" || order[2] != "0" {
		t.Errorf("%v %v", order, tried.Hosts)
	}
	if _, err := cl.Pick(time.Now(), &tried); err != nil {
		t.Error(err)
	}
}

// Ejections grow, end, and are forgiven; an ejected host is better than none.
func TestEjection(t *testing.T) {
	cfg := &config.Cluster{Name: "c", Outlier: &config.Outlier{ConsecutiveLocal: 3, EnforceLocal: 100, Interval: time.Second, BaseEjection: 5 * time.Second, MaxEjection: 8 * time.Second, MaxPercent: 100}}
	cl := newCluster(cfg, &Dialer{})
	cl.assign(levels(100, []config.Health{config.Healthy, config.Healthy}), nil)
	now := time.Now()
	h := cl.Hosts()[0]
	fail := func(at time.Time) time.Duration {
		for range 3 {
			h.Failed(at)
		}
		return h.ejectedUntil(at).Sub(at)
	}
	if d := fail(now); d != 5*time.Second {
		t.Errorf("first ejection %v", d)
	}
	for range 10 {
		if got, err := cl.Pick(now, &Tried{}); err != nil || got == h {
			t.Fatalf("ejected host chosen: %v", err)
		}
	}
	again := now.Add(5 * time.Second)
	if d := fail(again); d != 8*time.Second {
		t.Errorf("second ejection %v", d)
	}
	if d := fail(again.Add(time.Minute)); d != 5*time.Second {
		t.Errorf("ejection after a good minute %v", d)
	}
	later := again.Add(time.Minute)
	cl.Hosts()[1].Failed(later)
	for _, other := range cl.Hosts() {
		for range 3 {
			other.Failed(later)
		}
	}
	if _, err := cl.Pick(later, &Tried{}); err != nil {
		t.Error("with all ejected: ", err)
	}
}
