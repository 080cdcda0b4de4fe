package registry

import (
	"testing"
	"time"
)

// A cluster that flaps three times in a minute needs 30 s of health to return,
// and one miss begins them anew; one that is lost now and then returns at once.
// (faults, section 3: flap)
func TestDamper(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(1000+int64(seconds), 0) }
	for name, tt := range map[string]struct {
		losses  []int
		answers []int // each a probe that was answered, negative: not
		want    int   // the answer that makes it reachable, -1 none
	}{
		"first answer ever":      {nil, []int{1}, 1},
		"lost once":              {[]int{0}, []int{11}, 11},
		"lost twice":             {[]int{0, 20}, []int{31}, 31},
		"three times in minutes": {[]int{0, 50, 100}, []int{110}, 110},
		"three times in one":     {[]int{0, 20, 40}, []int{50, 60, 70, 79, 80, 82}, 80},
		"a miss in between":      {[]int{0, 20, 40}, []int{50, 60, -70, 72, 82, 92, 101, 102}, 102},
	} {
		t.Run(name, func(t *testing.T) {
			var d damper
			for _, l := range tt.losses {
				d.lost(at(l))
			}
			got := -1
			for _, a := range tt.answers {
				if a < 0 {
					d.failed()
				} else if d.returns(at(a)) {
					got = a
					break
				}
			}
			if got != tt.want {
				t.Errorf("reachable at %d s, want %d", got, tt.want)
			}
		})
	}
}
