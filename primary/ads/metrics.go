package ads

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the server does. Labels are few and bounded: a type that
// is not served counts as "unknown".
type metrics struct {
	connected *prometheus.GaugeVec
	pushes    *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	nacks     *prometheus.CounterVec
	denied    prometheus.Counter
	cut       prometheus.Counter
	latency   prometheus.Histogram
	views     prometheus.GaugeFunc
}

// newMetrics registers the metrics; views tells how many the cache holds.
func newMetrics(reg prometheus.Registerer, views func() int) (*metrics, error) {
	m := &metrics{
		connected: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "isthmus_xds_connected_proxies", Help: "Proxies with an open xDS stream."}, []string{"kind", "protocol"}),
		pushes:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "isthmus_xds_pushes_total", Help: "xDS responses sent."}, []string{"type"}),
		bytes:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "isthmus_xds_push_bytes_total", Help: "Bytes of resources in xDS responses."}, []string{"type"}),
		nacks:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "isthmus_xds_nacks_total", Help: "xDS responses refused by a client."}, []string{"type"}),
		denied:    prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_xds_denied_total", Help: "xDS streams refused for want of a proved identity."}),
		cut:       prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_xds_cut_total", Help: "xDS streams cut because the client did not read or answer."}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "isthmus_xds_push_seconds", Help: "From a new snapshot to a response with it handed to the network.",
			Buckets: prometheus.ExponentialBuckets(0.001, 3, 10),
		}),
		views: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "isthmus_xds_views", Help: "Views of the mesh that are kept, each for all proxies that see it alike."},
			func() float64 { return float64(views()) }),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.connected, m.pushes, m.bytes, m.nacks, m.denied, m.cut, m.latency, m.views} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register xds metrics: %w", err)
	}
	return m, nil
}
