package controllers

import (
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/remote/registry"
)

var (
	start   = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	good    = map[string]probeState{"192.0.2.2:15443": {known: true}}
	silent  = map[string]probeState{"192.0.2.2:15443": {known: true, Silent: true, Since: start, Message: "connection refused"}}
	unknown = map[string]probeState{"192.0.2.2:15443": {}}
)

func remote(reachable, synced bool, last time.Time) *registry.Status {
	return &registry.Status{Cluster: "west", Server: "https://192.0.2.9:6443", Accepted: true, Reachable: reachable, Synced: synced, LastReachable: last}
}

// The table of design.md, and what is beside it.
func TestLinkState(t *testing.T) {
	up, down, never := remote(true, true, start), remote(false, true, start), remote(false, false, time.Time{})
	refused := remote(false, false, time.Time{})
	refused.Accepted, refused.RefusedReason = false, "user.exec is not allowed"
	rotatedBadly := remote(true, true, start)
	rotatedBadly.Accepted, rotatedBadly.RefusedReason = false, "user.exec is not allowed"

	for name, test := range map[string]struct {
		facts linkFacts
		want  v1alpha1.LinkState
		prev  v1alpha1.LinkState
	}{
		"reachable, answers":               {linkFacts{Remote: up, Known: true, Gateways: good}, v1alpha1.LinkConnected, ""},
		"unreachable, answers":             {linkFacts{Remote: down, Known: true, Gateways: good}, v1alpha1.LinkStale, ""},
		"reachable, silent":                {linkFacts{Remote: up, Known: true, Gateways: silent}, v1alpha1.LinkDegraded, ""},
		"unreachable, silent":              {linkFacts{Remote: down, Known: true, Gateways: silent}, v1alpha1.LinkLost, ""},
		"a new link waits for the probe":   {linkFacts{Remote: up, Known: true, Gateways: unknown}, v1alpha1.LinkPending, ""},
		"unknown counts as answering":      {linkFacts{Remote: up, Known: true, Gateways: unknown}, v1alpha1.LinkConnected, v1alpha1.LinkConnected},
		"a new leader has not read it yet": {linkFacts{Remote: up}, v1alpha1.LinkConnected, v1alpha1.LinkConnected},
		"no gateway":                       {linkFacts{Remote: up, Known: true}, v1alpha1.LinkDegraded, ""},
		"the same network":                 {linkFacts{Remote: up, Known: true, SameNetwork: true}, v1alpha1.LinkConnected, ""},
		"the same network, unreachable":    {linkFacts{Remote: down, Known: true, SameNetwork: true}, v1alpha1.LinkStale, ""},
		"never reached":                    {linkFacts{Remote: never, Known: true}, v1alpha1.LinkPending, ""},
		"no secret":                        {linkFacts{}, v1alpha1.LinkPending, ""},
		"refused":                          {linkFacts{Remote: refused, Known: true}, v1alpha1.LinkRefused, ""},
		"surplus secret":                   {linkFacts{Refused: "leads to this very cluster"}, v1alpha1.LinkRefused, ""},
		"a bad secret after a good one":    {linkFacts{Remote: rotatedBadly, Known: true, Gateways: good}, v1alpha1.LinkConnected, ""},
		"reachable, not read yet, unknown": {linkFacts{Remote: remote(true, false, start)}, v1alpha1.LinkPending, ""},
	} {
		got := linkStatus(v1alpha1.ClusterLinkStatus{State: test.prev}, test.facts, start.Add(time.Minute))
		if got.State != test.want {
			t.Errorf("%s: %s, want %s (%+v)", name, got.State, test.want, got.Conditions)
		}
		if (got.State != v1alpha1.LinkConnected || name == "a bad secret after a good one") && got.Message == "" {
			t.Errorf("%s: no message", name)
		}
	}
}

// Since is the time of the change, whatever is written after; a status that says
// nothing new is the same to the byte, so that nobody writes it.
func TestLinkSince(t *testing.T) {
	f := linkFacts{Remote: remote(true, true, start), Known: true, Gateways: good}
	first := linkStatus(v1alpha1.ClusterLinkStatus{}, f, start)
	f.Remote = remote(true, true, start.Add(20*time.Second))
	if again := linkStatus(first, f, start.Add(20*time.Second)); !equality.Semantic.DeepEqual(first, again) {
		t.Errorf("a quiet link changes: %+v, %+v", first, again)
	}
	f.Remote = remote(true, true, start.Add(70*time.Second))
	if later := linkStatus(first, f, start.Add(70*time.Second)); !later.Since.Time.Equal(start) || !later.LastReachable.Time.Equal(start.Add(70*time.Second)) {
		t.Errorf("after a minute: since %s, last reachable %s", later.Since, later.LastReachable)
	}
	f.Remote = remote(false, true, start.Add(71*time.Second))
	stale := linkStatus(first, f, start.Add(82*time.Second))
	if stale.State != v1alpha1.LinkStale || !stale.Since.Time.Equal(start.Add(82*time.Second)) || !stale.LastReachable.Time.Equal(start.Add(71*time.Second)) {
		t.Errorf("stale: %+v", stale)
	}
	if again := linkStatus(stale, f, start.Add(99*time.Second)); !equality.Semantic.DeepEqual(stale, again) {
		t.Errorf("a stale link changes: %+v, %+v", stale, again)
	}
}

// A control plane that has just started does not call a cluster unreachable
// before it has asked for a while, nor does it forget that another did.
func TestLinkRestart(t *testing.T) {
	connected := linkStatus(v1alpha1.ClusterLinkStatus{}, linkFacts{Remote: remote(true, true, start), Known: true, Gateways: good}, start)
	stale := linkStatus(connected, linkFacts{Remote: remote(false, true, start), Known: true, Gateways: good}, start.Add(time.Minute))
	asked := linkFacts{Remote: remote(false, false, time.Time{}), Known: true, Gateways: good, Started: start.Add(time.Hour)}
	for _, before := range []v1alpha1.ClusterLinkStatus{connected, stale} {
		soon := linkStatus(before, asked, asked.Started.Add(time.Second))
		if soon.State != before.State || !soon.Since.Equal(before.Since) || !soon.LastReachable.Equal(before.LastReachable) {
			t.Errorf("soon after the start: %s since %s, was %s since %s", soon.State, soon.Since, before.State, before.Since)
		}
		later := linkStatus(soon, asked, asked.Started.Add(11*time.Second))
		if later.State != v1alpha1.LinkStale || meta.IsStatusConditionTrue(later.Conditions, v1alpha1.ConditionReachable) {
			t.Errorf("later: %+v", later)
		}
	}
}

// Silent after three misses, back after ten seconds of good probes in a row.
func TestProbeState(t *testing.T) {
	miss := errors.New("connection refused")
	var p probeState
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	steps := []struct {
		ms     int
		err    error
		silent bool
	}{
		{0, nil, false}, {500, miss, false}, {1000, miss, false}, {1500, nil, false}, // two are not enough
		{2000, miss, false}, {2500, miss, false}, {3000, miss, true},
		{3500, nil, true}, {9000, nil, true}, {10000, miss, true}, // a miss begins anew
		{10500, nil, true}, {20000, nil, true}, {20500, nil, false},
	}
	for _, s := range steps {
		if p = p.next(s.err, at(s.ms)); p.Silent != s.silent {
			t.Errorf("at %d ms: silent %v", s.ms, p.Silent)
		}
	}
	if !p.Since.Equal(at(20500)) || p.Message != "" {
		t.Errorf("state %+v", p)
	}
}

// A drain is a condition, with its stage; it is no fault of the link. What the
// cluster itself said is remembered, and not what was asked for here.
func TestLinkDrain(t *testing.T) {
	own := &federation.Drain{Stage: federation.Draining, Since: start}
	f := linkFacts{Remote: remote(true, true, start), Known: true, Read: true, Gateways: good}
	status := linkStatus(v1alpha1.ClusterLinkStatus{}, f, start)
	for _, step := range []struct {
		name, want, remembered string
		change                 func()
	}{
		{"in use", "False InUse", "", func() {}},
		{"draining", "True Draining", "draining,since=2026-01-02T03:00:00Z", func() { f.Drain = own }},
		{"drained", "True Drained", "drained,since=2026-01-02T03:00:00Z", func() {
			f.Drain = &federation.Drain{Stage: federation.Drained, Since: start}
		}},
		{"returning", "True Returning", "returning=25", func() { f.Drain = &federation.Drain{Stage: federation.Returning, Share: 25} }},
		{"asked for here", "True Draining", "returning=25", func() { f.Drain, f.KeptAway = own, true }},
		{"asked for here, wrongly", "False InvalidDrain", "", func() {
			f.Drain, f.KeptAway, f.BadDrain = nil, false, errors.New("no good")
		}},
		{"not read since the start", "True Draining", "", func() { f.Drain, f.BadDrain, f.Read = own, nil, false }},
	} {
		step.change()
		status = linkStatus(status, f, start.Add(time.Minute))
		c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionDraining)
		if c == nil || string(c.Status)+" "+c.Reason != step.want || status.Drain != step.remembered || status.State != v1alpha1.LinkConnected {
			t.Errorf("%s: %+v, remembered %q, %s", step.name, c, status.Drain, status.State)
		}
		if again := linkStatus(status, f, start.Add(time.Hour)); !equality.Semantic.DeepEqual(status.Conditions, again.Conditions) {
			t.Errorf("%s: conditions change by themselves", step.name)
		}
	}
}

// A drill on the link is seen as such, whatever state it is in so far.
func TestLinkFault(t *testing.T) {
	drilled := remote(true, true, start)
	drilled.Fault = "drop"
	got := linkStatus(v1alpha1.ClusterLinkStatus{}, linkFacts{Remote: drilled, Known: true, Gateways: good}, start)
	if got.State != v1alpha1.LinkConnected || got.Fault != "drop" || got.Message != "a drill has its API server answer nothing" {
		t.Errorf("%s, %q, %q", got.State, got.Fault, got.Message)
	}
	drilled.Reachable = false
	got = linkStatus(got, linkFacts{Remote: drilled, Known: true, Gateways: good}, start)
	if got.State != v1alpha1.LinkStale || !strings.HasPrefix(got.Message, "a drill has its API server answer nothing: the API server at ") {
		t.Errorf("%s, %q", got.State, got.Message)
	}
	drilled.Fault = ""
	if got = linkStatus(got, linkFacts{Remote: drilled, Known: true, Gateways: good}, start); got.Fault != "" || strings.Contains(got.Message, "drill") {
		t.Errorf("when it is over: %q, %q", got.Fault, got.Message)
	}
}
