package scale_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/fleet"
)

// A change costs itself: with 300 exported services, one endpoint that comes or
// goes is one slice written here and one load assignment sent to each proxy, in
// one push; nothing else is sent, nor written but the link's count of endpoints.
func TestOneChange(t *testing.T) {
	shape := fleet.Small()
	w := newWorld(t, shape, shape.Namespaces, 2)
	m := newMesh(w.shape, shape.Namespaces)
	proxies := []*proxy{w.connect(0, nil), w.connect(1, nil)}
	w.link()
	if _, err := w.await(m, proxies, 5*time.Minute); err != nil {
		t.Fatal(err)
	}
	many := func(i int) bool { return m.exports[i].Pods > 1 }
	for _, test := range []struct {
		name string
		at   int
	}{
		{"a pod of the own network", m.pick(func(i int) bool { return m.own(i) && many(i) })},
		{"a count behind another network's gateways", m.pick(func(i int) bool { return !m.own(i) && many(i) && m.alters(i, m.exports[i].Pods-1) })},
		{"the last pod of another network", m.pick(func(i int) bool { return !m.own(i) && !many(i) && m.alters(i, 0) })},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.at < 0 {
				t.Fatal("the shape has no such export")
			}
			w.change(t, m, proxies, test.at)
		})
	}
}

// linkStatus is the write of the link to the changed cluster, which counts the
// ready endpoints read from there.
const linkStatus = "PATCH clusterlinks/status"

// alters reports whether proxies would see that export i has n ready pods.
func (m *mesh) alters(i, n int) bool {
	had := m.services[assignment(m.exports[i])].ready[i]
	out := m.set(i, n)
	m.set(i, had)
	return out
}

// change takes one pod away and holds what that costs against what it should.
func (w *world) change(t *testing.T, m *mesh, proxies []*proxy, i int) {
	t.Helper()
	w.settle(t)
	before := w.d.stats(t, false).Requests
	seen := make([]int, len(proxies))
	for k, p := range proxies {
		_, seen[k] = p.since(0)
	}
	e := m.exports[i]
	must(t, w.fleet.SetReady(e, e.Pods-1, false))
	m.set(i, e.Pods-1)
	for k, p := range proxies {
		eventually(t, "the proxy is told", func() bool {
			_, now := p.since(seen[k])
			return now > seen[k]
		})
	}
	w.settle(t)
	got := w.d.stats(t, false).Requests.minus(before)
	if n := got[linkStatus]; n > 1 { // its count of endpoints
		t.Errorf("the link was written %d times", n)
	}
	delete(got, linkStatus)
	if len(got) != 1 || got["PATCH endpointslices"] != 1 {
		t.Errorf("written: %v, want one slice", got)
	}
	for k, p := range proxies {
		pushes, _ := p.since(seen[k])
		if len(pushes) != 1 || pushes[0].url != typeEDS || !slices.Equal(pushes[0].names, []string{assignment(e)}) {
			t.Errorf("%s was sent %s, want the one load assignment", p.name, describe(pushes))
		}
	}
}

func describe(pushes []push) string {
	var out []string
	for _, p := range pushes {
		out = append(out, strings.TrimPrefix(p.url, typePrefix)+" "+strings.Join(p.names, ","))
	}
	return strings.Join(out, "; ")
}

// settle waits until nothing has been written for a while but leases.
func (w *world) settle(t *testing.T) {
	t.Helper()
	since, last := time.Now(), w.d.stats(t, false).Requests
	eventually(t, "nothing is written any more", func() bool {
		now := w.d.stats(t, false).Requests
		if len(now.minus(last)) > 0 {
			since, last = time.Now(), now
		}
		return time.Since(since) > 3*time.Second
	})
}
