package scale_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/fleet"
)

// size is how much is measured. All of it together ends by itself in about six
// minutes on two busy cores, whatever is slow.
type size struct {
	name       string
	shape      fleet.Shape
	namespaces int // of the shape's that the local cluster has
	proxies    int
	importMost time.Duration // the first import is given up after
	warm       time.Duration // of changes before they are measured
	steady     time.Duration
	perSecond  int
}

// sizeOf reads BENCH_SCALE and BENCH_PATIENCE, how long the first import may take.
// "small" and "medium" are smaller in all; "part" is the size seen from a
// cluster that has a tenth of the namespaces, so that less has to be written.
func sizeOf(b *testing.B) size {
	b.Helper()
	out := size{"full", fleet.Large(), fleet.Large().Namespaces, 4, 270 * time.Second, 5 * time.Second, 30 * time.Second, 100}
	switch os.Getenv("BENCH_SCALE") {
	case "small":
		out = size{"small", fleet.Small(), fleet.Small().Namespaces, 4, 2 * time.Minute, 2 * time.Second, 10 * time.Second, 50}
	case "medium":
		out = size{"medium", fleet.Medium(), fleet.Medium().Namespaces, 4, 3 * time.Minute, 5 * time.Second, 20 * time.Second, 100}
	case "part":
		out.name, out.namespaces = "part", out.namespaces/10
	}
	if text := os.Getenv("BENCH_PATIENCE"); text != "" {
		var err error
		out.importMost, err = time.ParseDuration(text)
		must(b, err)
	}
	return out
}

// BenchmarkScale prints how long a first full import of many clusters takes, the
// memory that it needs, and what a steady rate of changes costs. It measures once,
// whatever b.N is, and fails only where something does not come at all.
func BenchmarkScale(b *testing.B) {
	s := sizeOf(b)
	w := newWorld(b, s.shape, s.namespaces, s.proxies)
	m := newMesh(w.shape, s.namespaces)
	stop := newStopwatch(m)
	var proxies []*proxy
	for i := range s.proxies {
		hears := stop.heard
		if i > 0 {
			hears = nil // one that is timed, the others only read
		}
		proxies = append(proxies, w.connect(i, hears))
	}
	t := &table{b: b}
	t.row("clusters, beside the local one", "%d on %d networks", s.shape.Clusters, len(s.shape.Networks))
	t.row("exported services", "%d, %d of them imported", s.shape.Services, len(m.services))
	t.row("ServiceExports", "%d", len(s.shape.Exports()))
	t.row("proxies", "%d", s.proxies)
	if w.firstImport(t, m, proxies, s) {
		w.steady(t, m, proxies, stop, s)
	}
	t.print(s.name)
}

// firstImport links all clusters and waits for everything; false means that it
// was not complete in time, and the table says so.
func (w *world) firstImport(t *table, m *mesh, proxies []*proxy, s size) bool {
	empty := w.d.stats(w.t, true).Heap
	cpu, began := w.d.cpu(w.t), time.Now()
	w.link()
	var profiled sync.WaitGroup
	done := make(chan struct{})
	profiled.Go(func() { w.profileUntil(done) })
	got, err := w.await(m, proxies, s.importMost)
	close(done)
	profiled.Wait()
	if !got.Proxies.IsZero() {
		t.row("until every proxy has everything", "%.1f s", got.Proxies.Sub(began).Seconds())
	}
	if err != nil {
		t.row("first import NOT COMPLETE", "%v", err)
		w.memory(t, m, empty)
		return false
	}
	t.row("until every import has address, status and slices", "%.1f s", got.Imports.Sub(began).Seconds())
	t.row("CPU of isthmusd until then", "%.1f s", (w.d.cpu(w.t) - cpu).Seconds())
	t.row("writes for each import", "%.1f (%s)", total(got.Writes)/float64(len(m.services)), byKind(got.Writes))
	sent := 0
	for _, p := range proxies {
		sent += p.bytes
	}
	t.row("sent to each proxy", "%.1f MiB", mebi(uint64(sent/len(proxies))))
	w.memory(t, m, empty)
	return true
}

// profileUntil takes a profile of each 20 s of the first import.
func (w *world) profileUntil(done <-chan struct{}) {
	for i := 1; os.Getenv("BENCH_PROFILES") != ""; i++ {
		select {
		case <-done:
			return
		default:
			w.d.profile(w.t, fmt.Sprintf("import-cpu-%d", i), "profile?seconds=20")
		}
	}
}

func (w *world) memory(t *table, m *mesh, empty uint64) {
	w.d.profile(w.t, "heap", "heap?gc=1")
	heap := w.d.stats(w.t, true).Heap
	t.row("heap in use, after a collection", "%.0f MiB", mebi(heap))
	t.row("resident memory", "%.0f MiB", mebi(w.d.resident(w.t)))
	t.row("heap for each ServiceExport", "%.1f KiB", float64(heap-empty)/1024/float64(len(w.shape.Exports())))
}

// steady makes changes at an even rate and measures what they cost.
func (w *world) steady(t *table, m *mesh, proxies []*proxy, stop *stopwatch, s size) {
	random := rand.New(rand.NewPCG(2, 2)) //nolint:gosec // the same each time
	order := random.Perm(len(m.exports))
	next := 0
	run := func(d time.Duration) int {
		return w.changes(m, stop, d, s.perSecond, func() int { next++; return order[next%len(order)] })
	}
	run(s.warm)
	stop.forget()
	before, cpu, began := w.d.stats(w.t, false).Requests, w.d.cpu(w.t), time.Now()
	_, pushed := proxies[0].since(0)
	profiled := make(chan struct{})
	go func() {
		defer close(profiled)
		w.d.profile(w.t, "steady-cpu", fmt.Sprintf("profile?seconds=%d", int(s.steady.Seconds())))
	}()
	n := run(s.steady)
	took := time.Since(began)
	used := w.d.cpu(w.t) - cpu
	_, now := proxies[0].since(0)
	<-profiled
	stop.settle(15 * time.Second)
	writes := w.d.stats(w.t, false).Requests.minus(before)
	t.row("changes made", "%d in %.1f s: %.0f each second", n, took.Seconds(), float64(n)/took.Seconds())
	t.row("CPU of isthmusd meanwhile", "%.0f %% of a core", 100*used.Seconds()/took.Seconds())
	t.row("CPU for each change", "%.1f ms", 1000*used.Seconds()/float64(n))
	t.row("pushes to each proxy", "%.1f each second", float64(now-pushed)/took.Seconds())
	t.row("slices written for each change", "%.2f", float64(writes["PATCH endpointslices"])/float64(n))
	delete(writes, "PATCH endpointslices")
	t.row("other writes for each change", "%.2f (%s)", total(writes)/float64(n), byKind(writes))
	t.row("streams that ended and were opened again", "%s", reopened(proxies))
	for _, kind := range []string{ownNetwork, toOrFromZero, countOnly} {
		t.row("change to proxy, "+kind, "%s", stop.summary(kind))
	}
}

// reopened counts the ends of streams, and says why one ended.
func reopened(proxies []*proxy) string {
	n, why := 0, ""
	for _, p := range proxies {
		p.mu.Lock()
		for _, err := range p.ended {
			n, why = n+1, fmt.Sprintf(" (%v)", err)
		}
		p.mu.Unlock()
	}
	return fmt.Sprintf("%d%s", n, why)
}

// changes toggles the last pod of one export after the other, at that rate.
func (w *world) changes(m *mesh, stop *stopwatch, d time.Duration, perSecond int, next func() int) (n int) {
	every := time.Second / time.Duration(perSecond)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for began := time.Now(); time.Since(began) < d; n++ {
		if time.Since(began) < time.Duration(n)*every { // else it is late, and catches up
			<-ticker.C
		}
		i := next()
		e := m.exports[i]
		ready := m.services[assignment(e)].ready[i] < e.Pods
		pods := e.Pods - 1
		if ready {
			pods = e.Pods
		}
		stop.start(i, pods)
		must(w.t, w.fleet.SetReady(e, e.Pods-1, ready))
	}
	return n
}

// Kinds of changes, as proxies see them.
const (
	ownNetwork   = "own network"
	toOrFromZero = "other networks, to or from zero"
	countOnly    = "other networks, a mere count (may be held for 1 s)"
)

// stopwatch times changes from the moment they are made to a proxy's receipt.
type stopwatch struct {
	mu      sync.Mutex
	mesh    *mesh
	pending map[string]started
	took    map[string][]time.Duration
	unseen  int // changes that proxies need not see
}

type started struct {
	kind string
	at   time.Time
}

func newStopwatch(m *mesh) *stopwatch {
	return &stopwatch{mesh: m, pending: map[string]started{}, took: map[string][]time.Duration{}}
}

// start notes that export i is about to have that many ready pods.
func (s *stopwatch) start(i, pods int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.mesh
	name := assignment(m.exports[i])
	before := m.hops(m.services[name])
	if !m.set(i, pods) {
		s.unseen++
		return
	}
	kind := countOnly
	switch {
	case m.own(i):
		kind = ownNetwork
	case m.hops(m.services[name]) != before:
		kind = toOrFromZero
	}
	s.pending[name] = started{kind, time.Now()}
}

func (s *stopwatch) heard(name string, _ int, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.pending[name]; ok {
		delete(s.pending, name)
		s.took[p.kind] = append(s.took[p.kind], at.Sub(p.at))
	}
}

// forget drops what was timed; what is under way is timed on.
func (s *stopwatch) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.took)
}

// settle waits until every change has been heard of, for at most that long.
func (s *stopwatch) settle(most time.Duration) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(most); time.Now().Before(deadline); <-ticker.C {
		s.mu.Lock()
		left := len(s.pending)
		s.mu.Unlock()
		if left == 0 {
			return
		}
	}
}

func (s *stopwatch) summary(kind string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	took := slices.Sorted(slices.Values(s.took[kind]))
	lost := 0
	for _, p := range s.pending {
		if p.kind == kind {
			lost++
		}
	}
	if len(took) == 0 {
		return fmt.Sprintf("none heard of, %d missing", lost)
	}
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Milliseconds()) }
	return fmt.Sprintf("p50 %.0f ms, p99 %.0f ms (%d changes, %d missing)", at(0.5), at(0.99), len(took), lost)
}

// table collects figures and prints them together.
type table struct {
	b     *testing.B
	lines []string
}

func (t *table) row(what, format string, args ...any) {
	t.lines = append(t.lines, fmt.Sprintf("| %s | %s |", what, fmt.Sprintf(format, args...)))
}

func (t *table) print(size string) {
	fmt.Printf("\n| scale: %s | |\n|---|---|\n%s\n\n", size, strings.Join(t.lines, "\n"))
}

func mebi(n uint64) float64 { return float64(n) / (1 << 20) }

func total(writes map[string]int) (sum float64) {
	for _, n := range writes {
		sum += float64(n)
	}
	return sum
}

// byKind lists writes, the most first.
func byKind(writes map[string]int) string {
	var kinds []string
	for kind := range writes {
		kinds = append(kinds, kind)
	}
	slices.SortFunc(kinds, func(a, b string) int {
		if d := writes[b] - writes[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for i, kind := range kinds {
		kinds[i] = fmt.Sprintf("%s %d", kind, writes[kind])
	}
	return strings.Join(kinds, ", ")
}
