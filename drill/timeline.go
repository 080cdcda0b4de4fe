package drill

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/drill/load"
)

// Bin is the length of one point of a timeline.
const Bin = 500 * time.Millisecond

// Point is what the requests that began in one bin became.
type Point struct {
	Seconds  float64        `json:"seconds"` // of its beginning, from the start of the baseline
	OK       int            `json:"ok"`
	Failed   int            `json:"failed"`
	P50      float64        `json:"p50"` // of the good answers, in milliseconds; 0 where there were none
	P99      float64        `json:"p99"`
	Clusters map[string]int `json:"clusters,omitempty"` // good answers of each
}

// Timeline sorts records, in any order, into bins from marks.Started to marks.Ended.
func Timeline(records []load.Record, marks Marks) []Point {
	n := int((marks.Ended.Sub(marks.Started) + Bin - 1) / Bin)
	if n <= 0 {
		return nil
	}
	parts := make([][]load.Record, n)
	for _, r := range records {
		if i := int(r.Start.Sub(marks.Started) / Bin); !r.Start.Before(marks.Started) && i < n {
			parts[i] = append(parts[i], r)
		}
	}
	out := make([]Point, n)
	for i, part := range parts {
		s := load.Summarize(part)
		out[i] = Point{Seconds: seconds(time.Duration(i) * Bin), OK: s.OK, Failed: s.Failed, P50: s.Latency.P50, P99: s.Latency.P99}
		for name, share := range s.Clusters {
			if out[i].Clusters == nil {
				out[i].Clusters = map[string]int{}
			}
			out[i].Clusters[name] = share.Requests
		}
	}
	return out
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
