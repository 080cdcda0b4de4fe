package controllers

import (
	"errors"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
)

// linkMetrics show what the elected replica last wrote; on others they are empty.
type linkMetrics struct {
	state   *prometheus.GaugeVec
	since   *prometheus.GaugeVec
	gateway *prometheus.GaugeVec
	last    map[string]v1alpha1.ClusterLinkStatus // by cluster, as shown
}

// newLinkMetrics registers the metrics, or takes those that are registered already.
func newLinkMetrics(r prometheus.Registerer) *linkMetrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		if r == nil {
			return g
		}
		err := r.Register(g)
		if known, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
			if old, ok := known.ExistingCollector.(*prometheus.GaugeVec); ok {
				return old
			}
		}
		return g
	}
	return &linkMetrics{
		state:   gauge("isthmus_link_state", "1 for the state in which the link to a cluster is.", "cluster", "state"),
		since:   gauge("isthmus_link_state_since_seconds", "Unix time since when the link is in its state.", "cluster"),
		gateway: gauge("isthmus_gateway_answers", "1 if a remote gateway's address answers probes, else 0.", "cluster", "address"),
		last:    map[string]v1alpha1.ClusterLinkStatus{},
	}
}

// keep forgets every cluster but those.
func (m *linkMetrics) keep(clusters map[string]bool) {
	for cluster := range m.last {
		if !clusters[cluster] {
			m.forget(cluster)
		}
	}
}

func (m *linkMetrics) forget(cluster string) {
	delete(m.last, cluster)
	for _, g := range []*prometheus.GaugeVec{m.state, m.since, m.gateway} {
		g.DeletePartialMatch(prometheus.Labels{"cluster": cluster})
	}
}

func (m *linkMetrics) set(cluster string, s v1alpha1.ClusterLinkStatus) {
	old := m.last[cluster]
	m.last[cluster] = s
	if old.State != s.State {
		m.state.DeleteLabelValues(cluster, string(old.State))
	}
	m.state.WithLabelValues(cluster, string(s.State)).Set(1)
	if s.Since != nil {
		m.since.WithLabelValues(cluster).Set(float64(s.Since.Unix()))
	}
	for _, g := range old.Gateways {
		if !slices.ContainsFunc(s.Gateways, func(o v1alpha1.GatewayStatus) bool { return o.Address == g.Address }) {
			m.gateway.DeleteLabelValues(cluster, g.Address)
		}
	}
	for _, g := range s.Gateways {
		answers := 0.0
		if g.Answers {
			answers = 1
		}
		m.gateway.WithLabelValues(cluster, g.Address).Set(answers)
	}
}
