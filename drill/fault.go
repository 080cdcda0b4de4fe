package drill

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// A Fault is something of the mesh's own that breaks itself because it is asked to. It ends by itself
// faultLife after it was last asked, so that a drill that was killed leaves nothing broken.
type Fault struct {
	Cluster string `json:"cluster"` // name of the cluster whose gateway or API server seems lost
	Mode    string `json:"mode"`    // ModeRefuse or ModeDrop
}

// How long a fault lasts, in whole seconds, and how often it is renewed.
const (
	faultLife  = 10 * time.Second
	faultEvery = 2500 * time.Millisecond
)

// does and did say what a mode is like.
var (
	does = map[string]string{ModeRefuse: "refuse connections", ModeDrop: "drop all packets"}
	did  = map[string]string{ModeRefuse: "refused connections", ModeDrop: "dropped all packets"}
)

// Fades reports whether the change ends by itself unless it is made again.
func (c Change) Fades() bool { return c.Kind == KindGateway || c.Kind == KindAPI }

// Keep makes those changes again that fade, until ctx ends. An error says that one of them may have ended
// meanwhile: what is measured is worth nothing then.
func Keep(ctx context.Context, h Hands, changes []Change) error {
	fading := slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return !c.Fades() })
	if len(fading) == 0 {
		return nil
	}
	tick := time.NewTicker(faultEvery)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		began := time.Now()
		err := renew(ctx, h, fading)
		switch {
		case err == nil && began.Sub(last) < faultLife:
			last = began
		case err == nil:
			return fmt.Errorf("what was broken ended by itself: it was renewed after %s only", began.Sub(last).Round(time.Millisecond))
		case time.Since(last) >= faultLife:
			return fmt.Errorf("what was broken ended by itself, since it could not be renewed: %w", err)
		}
	}
}

// renew is not broken off: what it asks for must not arrive after a restore.
func renew(ctx context.Context, h Hands, changes []Change) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), faultLife)
	defer cancel()
	return Make(ctx, h, changes)
}
