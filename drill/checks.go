package drill

import (
	"fmt"
	"math"
	"time"

	"github.com/isthmus-mesh/isthmus/drill/load"
)

// Check is one objective and what became of it.
type Check struct {
	Name   string `json:"name"`             // what is wanted, in words
	OK     bool   `json:"ok"`               // it was met
	Reason string `json:"reason,omitempty"` // why not
}

// check notes an objective; the rest says why it is not met, where bad.
func (m *Measured) check(name string, bad bool, format string, args ...any) {
	c := Check{Name: name, OK: !bad}
	if bad {
		c.Reason = fmt.Sprintf(format, args...)
		m.Reasons = append(m.Reasons, c.Reason)
		m.Verdict = Fail
	}
	m.Checks = append(m.Checks, c)
}

// judge compares what was measured with what was wanted.
func (m *Measured) judge(want Objectives) {
	m.Verdict = Pass
	m.judgeBaseline(want)
	m.judgeFailures(want)
	m.judgeAnswers(want)
}

func (m *Measured) judgeBaseline(want Objectives) {
	base := m.Phases[0]
	for i, when := range []string{"before the break", "while broken", "after the restore"} {
		p := m.Phases[i]
		m.check("requests are sent "+when, p.Requests == 0, "no request was sent in phase %q", p.Name)
	}
	m.check("nothing fails before the break", base.Failed > 0, "%d of %d requests failed before anything was broken", base.Failed, base.Requests)
	if want.Home != "" {
		m.check("before the break only "+want.Home+" answers", base.OK > 0 && base.Clusters[want.Home].Requests < base.OK, "before the break not only %s answered", want.Home)
	}
}

func (m *Measured) judgeFailures(want Objectives) {
	broken, restored := m.Phases[1], m.Phases[2]
	m.check("somebody answers while broken", broken.Requests > 0 && broken.OK == 0, "nothing answered while broken")
	if want.Recover > 0 {
		m.check(fmt.Sprintf("the last failure is over %s after the break", want.Recover), m.RecoverSeconds > seconds(want.Recover),
			"requests failed until %.1f s after the break, allowed are %.1f s", m.RecoverSeconds, seconds(want.Recover))
	}
	if want.Clean > 0 {
		last := m.LastFailureSeconds
		m.check(fmt.Sprintf("no request fails that begins %s after the break or later", want.Clean), (last != nil && *last >= seconds(want.Clean)) || restored.Failed > 0,
			"a request that began %s after the break failed (allowed: before %.1f s), and %d after the restore", text(last), seconds(want.Clean), restored.Failed)
	}
	after, failed := broken.Requests+restored.Requests, broken.Failed+restored.Failed
	switch {
	case want.Errors != nil:
		m.check(fmt.Sprintf("at most %d requests fail", *want.Errors), failed > *want.Errors, "%d of %d requests failed after the break, allowed are %d", failed, after, *want.Errors)
	case want.ErrorRate < 1:
		m.check(fmt.Sprintf("at most %.2f%% of the requests fail", 100*want.ErrorRate), after > 0 && float64(failed) > want.ErrorRate*float64(after),
			"%d of %d requests failed after the break, allowed are %.2f%%", failed, after, 100*want.ErrorRate)
	}
	if want.P99 > 0 {
		limit := 1000 * seconds(want.P99)
		m.check(fmt.Sprintf("p99 while broken is at most %s", want.P99), broken.Latency.P99 > limit, "p99 was %.1f ms while broken, allowed are %.1f ms", broken.Latency.P99, limit)
	}
}

func (m *Measured) judgeAnswers(want Objectives) {
	base, broken := m.Phases[0], m.Phases[1]
	if want.Away != "" {
		m.check(want.Away+" answers while broken", broken.Requests > 0 && broken.Clusters[want.Away].Requests == 0, "%s never answered while %s was broken", want.Away, want.lost())
	}
	if want.Same {
		changed := moved(base, broken)
		m.check("who answers does not change", changed != "", "%s", changed)
	}
	if want.WrongShare != nil {
		m.check(fmt.Sprintf("at most %.0f%% of the answers are of a wrong cluster", 100**want.WrongShare), m.WrongShare > *want.WrongShare,
			"%.1f%% of the good answers came from a wrong cluster, allowed are %.1f%%", 100*m.WrongShare, 100**want.WrongShare)
	}
	lost := want.lost()
	if lost == "" || want.FailBack == 0 || want.Same || want.Home != lost && base.Clusters[lost].Requests == 0 {
		return
	}
	m.check(fmt.Sprintf("%s answers again within %s of the restore", lost, want.FailBack), m.FailBackSeconds == nil || *m.FailBackSeconds > seconds(want.FailBack),
		"%s", failBackText(lost, m.FailBackSeconds))
}

func failBackText(lost string, after *float64) string {
	if after == nil {
		return lost + " did not answer again after the restore"
	}
	return fmt.Sprintf("%s answered again only after %s", lost, text(after))
}

// moved says which cluster's share of the answers differs from before, or "".
func moved(base, broken Phase) string {
	for name := range broken.Clusters {
		if _, ok := base.Clusters[name]; !ok {
			return name + " answered while broken, and not before"
		}
	}
	for _, name := range sortedKeys(base.Clusters) {
		was, is := base.Clusters[name].Fraction, broken.Clusters[name].Fraction
		if math.Abs(was-is) > SameWithin {
			return fmt.Sprintf("%s answered %.0f%% before the break and %.0f%% while broken", name, 100*was, 100*is)
		}
	}
	return ""
}

// countWrong counts good answers of clusters that should not have given them.
func (m *Measured) countWrong(parts [3][]load.Record, marks Marks, want Objectives) {
	lost, good, wrong := want.lost(), 0, 0
	back := marks.Ended
	if m.FailBackSeconds != nil {
		back = marks.Restored.Add(time.Duration(*m.FailBackSeconds * float64(time.Second)))
	}
	for i, records := range parts {
		for _, r := range records {
			if !r.OK() || r.Cluster == "" {
				continue
			}
			good++
			bad := want.Home != "" && r.Cluster != want.Home
			switch i {
			case 1:
				settled := r.Start.Sub(marks.Broken) >= Settle
				bad = settled && (!want.Same && lost != "" && r.Cluster == lost || bad && lost != want.Home)
			case 2:
				bad = bad && r.Start.Sub(back) >= Settle
			}
			if bad {
				m.Phases[i].Wrong++
				wrong++
			}
		}
	}
	if good > 0 {
		m.WrongShare = float64(wrong) / float64(good)
	}
}
