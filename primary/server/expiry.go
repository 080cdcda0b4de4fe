package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/trust/ca"
)

// expiryEvery is how often the authority's age is looked at.
const expiryEvery = time.Hour

// expiry tells when the cluster's authority ends: as metrics, and as an alarm in
// the log for the last quarter of its life.
type expiry struct {
	authority *ca.Authority
	log       *slog.Logger
}

func newExpiry(authority *ca.Authority, registry prometheus.Registerer, log *slog.Logger) *expiry {
	gauge := func(name, help string, value func() time.Time) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value().Unix()) }))
	}
	gauge("isthmus_ca_not_after_seconds", "Unix time when the chain ends that workloads' certificates are signed with.", func() time.Time {
		_, end := authority.Valid()
		return end
	})
	gauge("isthmus_root_not_after_seconds", "Unix time when the first of the trusted roots ends.", func() time.Time {
		return firstEnd(authority)
	})
	return &expiry{authority, log}
}

func firstEnd(authority *ca.Authority) (end time.Time) {
	for _, root := range authority.Bundle().Roots() {
		if end.IsZero() || root.NotAfter.Before(end) {
			end = root.NotAfter
		}
	}
	return end
}

// Run looks at once and then every hour until ctx ends.
func (e *expiry) Run(ctx context.Context) error {
	ticker := time.NewTicker(expiryEvery)
	defer ticker.Stop()
	for {
		e.look(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (e *expiry) look(now time.Time) {
	begin, end := e.authority.Valid()
	if left := end.Sub(now); left < end.Sub(begin)/4 {
		e.log.Error("the certificate authority ends soon: give the cluster another intermediate", "not_after", end.UTC().Format(time.RFC3339))
	}
}
