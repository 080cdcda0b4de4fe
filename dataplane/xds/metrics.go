package xds

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	connected prometheus.Gauge
	updates   *prometheus.CounterVec
	refused   *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		connected: prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_proxy_xds_connected", Help: "1 while the control plane answers."}),
		updates:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "isthmus_proxy_xds_resources_total", Help: "Resources received, by type and result."}, []string{"type", "result"}),
		refused:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "isthmus_proxy_xds_refused", Help: "Resources whose newest version is refused, by type."}, []string{"type"}),
	}
	if reg != nil {
		reg.MustRegister(m.connected, m.updates, m.refused)
	}
	return m
}

func (m *metrics) setConnected(connected bool) {
	if connected {
		m.connected.Set(1)
		return
	}
	m.connected.Set(0)
}

func (m *metrics) count(typeURL string, accepted, refused, held int) {
	kind := short(typeURL)
	m.updates.WithLabelValues(kind, "accepted").Add(float64(accepted))
	m.updates.WithLabelValues(kind, "refused").Add(float64(refused))
	m.refused.WithLabelValues(kind).Set(float64(held))
}

// short returns the message name of a type URL.
func short(typeURL string) string { return typeURL[strings.LastIndexByte(typeURL, '.')+1:] }
