// Package memory keeps a program below the memory limit of its container.
package memory

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// KeepBelowLimit has Go's garbage collector work harder from nine tenths of the
// container's memory limit on, at which the kernel would kill the program. A limit
// that is resized in place counts within a minute, until ctx ends. GOMEMLIMIT, where
// it is set, counts instead; without a limit nothing changes.
func KeepBelowLimit(ctx context.Context, log *slog.Logger) {
	bytes, err := memlimit.Set(memlimit.WithRefreshInterval(ctx, time.Minute))
	switch {
	case err != nil:
		log.Debug("the container's memory limit cannot be read; it is not minded", "err", err)
	case bytes != math.MaxInt64:
		log.Info("the collector keeps memory below the container's limit", "bytes", bytes)
	}
}
