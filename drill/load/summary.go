package load

import (
	"slices"
	"time"
)

// Summary is many records in numbers.
type Summary struct {
	Requests  int              `json:"requests"`
	OK        int              `json:"ok"`
	Failed    int              `json:"failed"`
	Errors    map[string]int   `json:"errors,omitempty"` // by kind
	First     time.Time        `json:"first,omitzero"`   // start of the first request
	Last      time.Time        `json:"last,omitzero"`    // end of the last
	Latency   Latency          `json:"latencyMs"`        // of the good answers
	Clusters  map[string]Share `json:"clusters,omitempty"`
	Pods      map[string]Share `json:"pods,omitempty"` // key CLUSTER/POD
	Versions  map[string]Share `json:"versions,omitempty"`
	Callers   []string         `json:"callers,omitempty"`   // identities that the servers saw, sorted
	LastError string           `json:"lastError,omitempty"` // the text of the latest error
}

// Latency is in milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Share is a part of the good answers.
type Share struct {
	Requests int     `json:"requests"`
	Fraction float64 `json:"fraction"` // 0 to 1
}

// Summarize counts records, which may be in any order.
func Summarize(records []Record) Summary {
	s := Summary{Requests: len(records), Errors: map[string]int{}, Clusters: map[string]Share{}, Pods: map[string]Share{}, Versions: map[string]Share{}}
	var times []float64
	callers := map[string]bool{}
	var lastError time.Time
	for _, r := range records {
		if s.First.IsZero() || r.Start.Before(s.First) {
			s.First = r.Start
		}
		if r.End().After(s.Last) {
			s.Last = r.End()
		}
		if !r.OK() {
			s.Failed++
			s.Errors[r.Kind]++
			if r.End().After(lastError) {
				lastError, s.LastError = r.End(), r.Message
			}
			continue
		}
		s.OK++
		times = append(times, r.Millis)
		if r.Caller != "" {
			callers[r.Caller] = true
		}
		count(s.Clusters, r.Cluster)
		count(s.Versions, r.Version)
		if r.Pod != "" {
			count(s.Pods, r.Cluster+"/"+r.Pod)
		}
	}
	for _, shares := range []map[string]Share{s.Clusters, s.Pods, s.Versions} {
		fractions(shares, s.OK)
	}
	for caller := range callers {
		s.Callers = append(s.Callers, caller)
	}
	slices.Sort(s.Callers)
	s.Latency = latencyOf(times)
	return s
}

func count(shares map[string]Share, key string) {
	if key == "" {
		return
	}
	shares[key] = Share{Requests: shares[key].Requests + 1}
}

func fractions(shares map[string]Share, total int) {
	for key, s := range shares {
		s.Fraction = float64(s.Requests) / float64(total)
		shares[key] = s
	}
}

// latencyOf takes times over; nearest-rank percentiles.
func latencyOf(times []float64) Latency {
	if len(times) == 0 {
		return Latency{}
	}
	slices.Sort(times)
	at := func(p float64) float64 {
		i := int(p*float64(len(times))+0.999999) - 1
		return times[max(0, min(i, len(times)-1))]
	}
	return Latency{P50: at(0.50), P90: at(0.90), P99: at(0.99), Max: times[len(times)-1]}
}
