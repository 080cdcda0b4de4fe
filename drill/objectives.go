package drill

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"
)

// Settle is how long after a change the mesh may go on as before, where the judge asks who answers.
const Settle = 2 * time.Second

// Objectives decide the verdict. What is at its zero value is not judged, ErrorRate aside.
type Objectives struct {
	// Home must answer in the baseline and again in the end, and Away while broken;
	// empty means any cluster.
	Home string `json:"home,omitempty"`
	Away string `json:"away,omitempty"`
	// Lost is the cluster that is not to answer while broken, and is to answer again in
	// the end if it did so before; empty means Home.
	Lost string `json:"lost,omitempty"`
	// Recover is the longest time from the break to the end of the last failure.
	Recover time.Duration `json:"-"`
	// Clean is the time after the break from which no request may begin that fails.
	Clean time.Duration `json:"-"`
	// FailBack is the longest time from the restore until what was lost answers again.
	FailBack time.Duration `json:"-"`
	// P99 is the greatest latency of 99 % of the good answers while broken.
	P99 time.Duration `json:"-"`
	// ErrorRate is the greatest part of requests that may fail after the break, 0 to 1.
	ErrorRate float64 `json:"errorRate"`
	// Errors is how many requests may fail after the break; nil leaves it to ErrorRate.
	Errors *int `json:"errors,omitempty"`
	// WrongShare is the greatest part of good answers from a wrong cluster, 0 to 1.
	WrongShare *float64 `json:"wrongClusterShare,omitempty"`
	// Same wants the same clusters to answer while broken as before, in shares that differ
	// by SameWithin at most.
	Same bool `json:"same,omitempty"`
}

// SameWithin is by how much a cluster's share of the answers may change by chance: through a
// gateway a connection is one pod, and connections are renewed.
const SameWithin = 0.2

func (o Objectives) lost() string { return cmp.Or(o.Lost, o.Home) }

// MarshalJSON writes durations as seconds.
func (o Objectives) MarshalJSON() ([]byte, error) {
	type plain Objectives
	return json.Marshal(struct {
		plain
		RecoverSeconds  float64 `json:"recoverSeconds,omitempty"`
		CleanSeconds    float64 `json:"cleanSeconds,omitempty"`
		FailBackSeconds float64 `json:"failBackSeconds,omitempty"`
		P99Millis       float64 `json:"p99Ms,omitempty"`
	}{plain(o), seconds(o.Recover), seconds(o.Clean), seconds(o.FailBack), 1000 * seconds(o.P99)})
}

// Lines says in words what is wanted, beyond what is wanted of every drill.
func (o Objectives) Lines() []string {
	var out []string
	add := func(on bool, format string, args ...any) {
		if on {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	add(o.Errors != nil && *o.Errors == 0, "no request fails")
	add(o.Errors != nil && *o.Errors > 0, "at most %d requests fail", deref(o.Errors))
	add(o.Errors == nil && o.ErrorRate < 1, "at most %.2f%% of the requests fail", 100*o.ErrorRate)
	add(o.Recover > 0, "the last failure is over %s after the break", o.Recover)
	add(o.Clean > 0, "no request fails that begins %s after the break or later", o.Clean)
	add(o.P99 > 0, "while broken 99%% of the good answers come within %s", o.P99)
	add(o.Home != "", "before the break only %s answers", o.Home)
	add(o.Away != "", "while broken %s answers", o.Away)
	add(o.Same, "who answers does not change")
	add(o.WrongShare != nil, "at most %.0f%% of the answers are of a wrong cluster", 100*deref(o.WrongShare))
	add(o.lost() != "" && o.FailBack > 0 && !o.Same, "%s answers again within %s of the restore, if it did so before", o.lost(), o.FailBack)
	return out
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
