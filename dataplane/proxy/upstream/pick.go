package upstream

import (
	"math/rand/v2"
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
)

// level is a priority.
type level struct {
	groups []*group
	counts [classes]int // hosts usable by class
	total  int
}

// group is a locality, or all of a priority where localities are not weighted.
type group struct {
	members []*member
	weight  int64
	current int64 // smooth weighted round robin
	counts  [classes]int
}

type member struct {
	host    *Host
	weight  int64
	current int64
	health  config.Health
	ejected bool
}

// Classes of health, best first: each is used only where no better one is left
// in any priority. Envoy answers "no healthy upstream" instead of using the last
// one with a panic threshold of 0. We try: an ejection is a guess of ours, and
// nothing is lost by being wrong.
const (
	classHealthy = iota
	classDegraded
	classEjected
	classes
)

// class returns the member's class, or false when it must not be used.
func (m *member) class() (int, bool) {
	switch {
	case m.health == config.Unhealthy:
		return 0, false
	case m.ejected:
		return classEjected, true
	case m.health == config.Degraded:
		return classDegraded, true
	default:
		return classHealthy, true
	}
}

func (l *level) totalWeight() int64 {
	var sum int64
	for _, g := range l.groups {
		sum += g.weight
	}
	return sum
}

// shuffle lets each proxy begin somewhere else; else all would call the first
// host after each change.
func (l *level) shuffle() {
	for _, g := range l.groups {
		rand.Shuffle(len(g.members), func(i, j int) { g.members[i], g.members[j] = g.members[j], g.members[i] })
	}
	rand.Shuffle(len(l.groups), func(i, j int) { l.groups[i], l.groups[j] = l.groups[j], l.groups[i] })
}

func (l *level) flatten() {
	all := &group{weight: 1}
	for _, g := range l.groups {
		all.members = append(all.members, g.members...)
	}
	l.groups = []*group{all}
}

// count renews the health of a priority and returns the end of the ejection
// that ends first, or zero.
func (l *level) count(now time.Time) time.Time {
	var first time.Time
	l.counts, l.total = [classes]int{}, 0
	for _, g := range l.groups {
		g.counts = [classes]int{}
		for _, m := range g.members {
			until := m.host.ejectedUntil(now)
			m.ejected = !until.IsZero()
			if m.ejected && (first.IsZero() || until.Before(first)) {
				first = until
			}
			l.total++
			if class, ok := m.class(); ok {
				g.counts[class]++
				l.counts[class]++
			}
		}
	}
	return first
}

// Tried is what a request has been through; it is not for concurrent use.
type Tried struct {
	Hosts      map[*Host]bool
	Priorities map[int]bool // left out of the next choice
	last       int
	Choices    int
}

// Exclude adds the priority of the last choice to those left out.
func (t *Tried) Exclude() {
	if t.Priorities == nil {
		t.Priorities = map[int]bool{}
	}
	t.Priorities[t.last] = true
}

// Pick chooses a host for the next attempt: one that was not tried before, in a
// priority that is not left out, as long as there is such a one. The error is
// ErrNoHealthy.
func (c *Cluster) Pick(now time.Time, tried *Tried) (*Host, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refresh(now)
	for class := range classes {
		for _, leave := range []struct{ priorities, hosts bool }{{true, true}, {false, true}, {false, false}} {
			if h, p := c.pickIn(class, tried, leave.priorities, leave.hosts); h != nil {
				if tried.Hosts == nil {
					tried.Hosts = map[*Host]bool{}
				}
				tried.Hosts[h], tried.last = true, p
				tried.Choices++
				return h, nil
			}
		}
	}
	return nil, ErrNoHealthy
}

func (c *Cluster) refresh(now time.Time) {
	if !c.stale && (c.validUntil.IsZero() || now.Before(c.validUntil)) {
		return
	}
	c.stale, c.validUntil = false, time.Time{}
	for _, l := range c.levels {
		if end := l.count(now); !end.IsZero() && (c.validUntil.IsZero() || end.Before(c.validUntil)) {
			c.validUntil = end
		}
	}
}

func (c *Cluster) pickIn(class int, tried *Tried, leavePriorities, leaveHosts bool) (*Host, int) {
	usable := func(m *member) bool {
		got, ok := m.class()
		return ok && got == class && (!leaveHosts || !tried.Hosts[m.host])
	}
	loads := c.loads(class, func(p int) bool {
		return !(leavePriorities && tried.Priorities[p]) && c.levels[p].any(usable)
	})
	p := choose(loads)
	if p < 0 {
		return nil, 0
	}
	g := c.levels[p].pickGroup(class, usable)
	if c.cfg.LeastRequest {
		return g.leastRequest(usable), p
	}
	return g.roundRobin(usable), p
}

// loads gives each priority its share in per cent, as Envoy does: a priority
// takes what its share of usable hosts, times the overprovisioning factor,
// allows, and the rest goes on to the next.
func (c *Cluster) loads(class int, may func(p int) bool) []int {
	loads := make([]int, len(c.levels))
	health := make([]int, len(c.levels))
	sum := 0
	for p, l := range c.levels {
		if may(p) {
			health[p] = max(1, min(100, l.counts[class]*int(c.assignment.Overprovision)/l.total))
			sum += health[p]
		}
	}
	if sum == 0 {
		return loads
	}
	left := 100
	total := min(100, sum)
	for p := range loads {
		loads[p] = min(left, (health[p]*100+total-1)/total)
		left -= loads[p]
	}
	return loads
}

// choose picks an index with the probability of its load; -1 if all are zero.
func choose(loads []int) int {
	sum := 0
	for _, l := range loads {
		sum += l
	}
	if sum == 0 {
		return -1
	}
	n := rand.IntN(sum)
	for i, l := range loads {
		if n -= l; n < 0 {
			return i
		}
	}
	return len(loads) - 1
}

func (l *level) any(usable func(*member) bool) bool {
	for _, g := range l.groups {
		for _, m := range g.members {
			if usable(m) {
				return true
			}
		}
	}
	return false
}

// pickGroup chooses a locality by weight times the share of its usable hosts.
// One with weight 0 gets something only when no other has a usable host.
func (l *level) pickGroup(class int, usable func(*member) bool) *group {
	var best, spare *group
	var sum int64
	for _, g := range l.groups {
		if !(&level{groups: []*group{g}}).any(usable) {
			continue
		}
		spare = g
		if g.weight == 0 {
			continue
		}
		effective := max(1, g.weight*1000*int64(g.counts[class])/int64(len(g.members)))
		g.current += effective
		sum += effective
		if best == nil || g.current > best.current {
			best = g
		}
	}
	if best == nil {
		return spare
	}
	best.current -= sum
	return best
}

// roundRobin is the smooth weighted one: a member of weight w comes w times in
// as many turns as all weights together, evenly spread.
func (g *group) roundRobin(usable func(*member) bool) *Host {
	var best *member
	var sum int64
	for _, m := range g.members {
		if !usable(m) {
			continue
		}
		m.current += m.weight
		sum += m.weight
		if best == nil || m.current > best.current {
			best = m
		}
	}
	best.current -= sum
	return best.host
}

// leastRequest takes the less busy of two members chosen by weight.
func (g *group) leastRequest(usable func(*member) bool) *Host {
	var sum int64
	for _, m := range g.members {
		if usable(m) {
			sum += m.weight
		}
	}
	a, b := g.at(rand.Int64N(sum), usable), g.at(rand.Int64N(sum), usable)
	if a.host.active.Load() <= b.host.active.Load() {
		return a.host
	}
	return b.host
}

func (g *group) at(n int64, usable func(*member) bool) *member {
	var last *member
	for _, m := range g.members {
		if !usable(m) {
			continue
		}
		last = m
		if n -= m.weight; n < 0 {
			return m
		}
	}
	return last
}
