//go:build !linux

package proxy

import (
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/proxy/upstream"
)

// watchIdle does nothing: other kernels do not tell when data came last.
func watchIdle(*downstream, *upstream.Conn, time.Duration) (stop func()) { return func() {} }
