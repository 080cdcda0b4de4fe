package watch

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/ingest"
)

// metrics of the snapshots and of the clusters they are made from.
type metrics struct {
	seconds   prometheus.Histogram
	reachable *prometheus.GaugeVec
	since     *prometheus.GaugeVec
	objects   *prometheus.GaugeVec
	drained   *prometheus.GaugeVec
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "isthmus_snapshot_seconds", Help: "Time to make a snapshot of the mesh.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}),
		reachable: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_cluster_reachable", Help: "1 if the cluster's API server answers.",
		}, []string{"cluster"}),
		since: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_cluster_stale_since_seconds", Help: "Unix time when a cluster that does not answer last did, else 0.",
		}, []string{"cluster"}),
		objects: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_cluster_objects", Help: "Objects held of the cluster.",
		}, []string{"cluster"}),
	}
	m.drained = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_cluster_drained", Help: "What is kept away from the cluster of its usual traffic: 1 while it is drained, less while traffic returns, 0 in full use.",
	}, []string{"cluster"})
	if registry != nil {
		registry.MustRegister(m.seconds, m.reachable, m.since, m.objects, m.drained)
	}
	return m
}

func (m *metrics) built(took time.Duration, s *federation.Snapshot, states []ingest.ClusterState, feeds map[federation.ClusterName]*feed) {
	m.drained.Reset()
	for _, c := range s.Clusters() {
		m.drained.WithLabelValues(string(c.Name)).Set(float64(100-c.Drain.ShareOf()) / 100)
	}
	m.seconds.Observe(took.Seconds())
	m.reachable.Reset()
	m.since.Reset()
	m.objects.Reset()
	for _, s := range states {
		reachable, since := 1.0, 0.0
		if !s.Reachable {
			reachable, since = 0, float64(s.Since.Unix())
		}
		m.reachable.WithLabelValues(string(s.Name)).Set(reachable)
		m.since.WithLabelValues(string(s.Name)).Set(since)
		if f := feeds[s.Name]; f != nil {
			m.objects.WithLabelValues(string(s.Name)).Set(float64(f.count()))
		}
	}
}
