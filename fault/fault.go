// Package fault breaks connections on purpose, for drills, by what a process may do to sockets
// of its own: no privilege is asked for, and nothing outside the process is changed.
package fault

import (
	"fmt"
	"time"
)

// Mode is how something behaves that a drill has broken.
type Mode int32

const (
	None   Mode = iota // nothing is broken
	Refuse             // connections are refused, and those that are open are reset
	Drop               // packets that come vanish, as behind a dropping firewall
)

// Bounds of a fault's life. Whoever wants a longer one renews it, so that none outlives by more
// than Longest whoever asked for it.
const (
	Shortest = time.Second
	Longest  = time.Minute
)

// ParseMode reads "refuse" or "drop".
func ParseMode(s string) (Mode, error) {
	for _, m := range []Mode{Refuse, Drop} {
		if s == m.String() {
			return m, nil
		}
	}
	return None, fmt.Errorf("fault mode %q is neither %s nor %s", s, Refuse, Drop)
}

func (m Mode) String() string {
	switch m {
	case Refuse:
		return "refuse"
	case Drop:
		return "drop"
	}
	return ""
}

// CheckLife refuses a life of a fault that is not between Shortest and Longest.
func CheckLife(d time.Duration) error {
	if d < Shortest || d > Longest {
		return fmt.Errorf("a fault lasts between %s and %s, not %s; renew it for more", Shortest, Longest, d)
	}
	return nil
}
