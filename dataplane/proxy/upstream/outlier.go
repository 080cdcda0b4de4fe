package upstream

import (
	"math/rand/v2"
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
)

// outlierState is a host's record of failures on our side of the connection.
type outlierState struct {
	failures  uint32 // consecutive
	ejections uint32
	until     time.Time // ejected until then
}

// healed takes one ejection off for every interval spent well, as Envoy does.
func (s *outlierState) healed(o *config.Outlier, now time.Time) {
	if s.ejections == 0 || o.Interval <= 0 || now.Before(s.until) {
		return
	}
	well := uint32(min(now.Sub(s.until)/o.Interval, time.Duration(s.ejections)))
	s.ejections -= well
}

// Succeeded records that the host took a connection or answered.
func (h *Host) Succeeded() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.outlier.failures = 0
}

// Failed records a failed connection, handshake or exchange at now, and ejects
// the host when the xds cluster's outlier detection says so.
func (h *Host) Failed(now time.Time) {
	o := h.Cluster.cfg.Outlier
	if o == nil || o.ConsecutiveLocal == 0 {
		return
	}
	h.mu.Lock()
	h.outlier.failures++
	eject := h.outlier.failures >= o.ConsecutiveLocal && !now.Before(h.outlier.until)
	h.mu.Unlock()
	if !eject || rand.Uint32N(100) >= o.EnforceLocal || !h.Cluster.mayEject(now) {
		return
	}
	h.mu.Lock()
	h.outlier.healed(o, now)
	h.outlier.failures = 0
	h.outlier.ejections++
	h.outlier.until = now.Add(min(o.BaseEjection*time.Duration(h.outlier.ejections), max(o.MaxEjection, o.BaseEjection)))
	h.mu.Unlock()
	h.Cluster.dirty()
}

// ejectedUntil returns when the host's ejection ends; zero if it is not ejected at now.
func (h *Host) ejectedUntil(now time.Time) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Before(h.outlier.until) {
		return h.outlier.until
	}
	return time.Time{}
}

func (h *Host) record() outlierState {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.outlier
}

// mayEject holds max_ejection_percent; one host may always be ejected.
func (c *Cluster) mayEject(now time.Time) bool {
	ejected, total := 0, 0
	for _, h := range c.Hosts() {
		total++
		if !h.ejectedUntil(now).IsZero() {
			ejected++
		}
	}
	return ejected == 0 || (ejected+1)*100 <= total*int(c.cfg.Outlier.MaxPercent)
}
