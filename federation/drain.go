package federation

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Drain says that traffic is kept away from a cluster: its endpoints, and its
// gateways as ways to others, are used only where nobody else is left. While it
// returns, they are given a share of what they had before. It is the value of
// api.AnnotationDrain. The nil Drain means that the cluster is in full use.
type Drain struct {
	Stage DrainStage
	Share int       // per cent, 1 to 99 while it returns, else 0
	Since time.Time // when it began, to the second; zero: not known
}

// DrainStage is how far a drain is. Draining and drained differ for people only.
type DrainStage string

const (
	Draining  DrainStage = "draining"  // traffic leaves
	Drained   DrainStage = "drained"   // somebody has seen that it left
	Returning DrainStage = "returning" // traffic comes back
)

// ErrDrain is wrapped by every error of ParseDrain.
var ErrDrain = errors.New("invalid drain")

// String returns what ParseDrain reads: "draining,since=2026-01-02T15:04:05Z" or
// "returning=25,since=2026-01-02T15:04:05Z".
func (d *Drain) String() string {
	if d == nil {
		return ""
	}
	out := string(d.Stage)
	if d.Stage == Returning {
		out += "=" + strconv.Itoa(d.Share)
	}
	if !d.Since.IsZero() {
		out += ",since=" + d.Since.UTC().Format(time.RFC3339)
	}
	return out
}

// ParseDrain reads the value of api.AnnotationDrain; the empty text is nil.
func ParseDrain(text string) (*Drain, error) {
	if text == "" {
		return nil, nil
	}
	stage, rest, more := strings.Cut(text, ",")
	stage, share, shared := strings.Cut(stage, "=")
	d := &Drain{Stage: DrainStage(stage)}
	if shared {
		n, err := strconv.ParseUint(share, 10, 8)
		if err != nil {
			return nil, fmt.Errorf("%w: share %.20q is not a number", ErrDrain, share)
		}
		d.Share = int(n)
	}
	switch d.Stage {
	case Draining, Drained:
		if shared {
			return nil, fmt.Errorf("%w: %.40q: only returning=N has a share", ErrDrain, text)
		}
	case Returning:
		if d.Share < 1 || d.Share > 99 {
			return nil, fmt.Errorf("%w: %.40q: the share is from 1 to 99", ErrDrain, text)
		}
	default:
		return nil, fmt.Errorf("%w: %.40q is not draining, drained or returning=N", ErrDrain, text)
	}
	if !more {
		return d, nil
	}
	since, err := time.Parse(time.RFC3339, strings.TrimPrefix(rest, "since="))
	if err != nil || !strings.HasPrefix(rest, "since=") {
		return nil, fmt.Errorf("%w: %.60q: after the stage comes since=TIME alone, such as since=2026-01-02T15:04:05Z", ErrDrain, text)
	}
	d.Since = since.UTC().Truncate(time.Second)
	return d, nil
}

// ShareOf is what of its usual share the cluster is given, in per cent: 100 where
// d is nil.
func (d *Drain) ShareOf() int {
	if d == nil {
		return 100
	}
	return d.Share
}

// Lower returns the one of two drains that gives less; d where they are equal.
func (d *Drain) Lower(o *Drain) *Drain {
	if o.ShareOf() < d.ShareOf() {
		return o
	}
	return d
}
