package server

import (
	"math"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
)

// census counts, when it is asked, what the newest snapshot holds of one cluster.
// It is the same on all replicas.
type census struct {
	cluster   federation.ClusterName
	ports     api.PortRange
	synthetic netip.Prefix
	latest    func() *federation.Snapshot // may return nil

	exports, imports, entryPorts, addresses *prometheus.Desc
}

func newCensus(cluster federation.ClusterName, ports api.PortRange, synthetic netip.Prefix, latest func() *federation.Snapshot) *census {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &census{
		cluster: cluster, ports: ports, synthetic: synthetic, latest: latest,
		exports:    desc("isthmus_exports", "Services that this cluster exports."),
		imports:    desc("isthmus_imports", "Services of the clusterset that are imported here."),
		entryPorts: desc("isthmus_entry_ports", "Ports of the entry gateway, by state: used, or total (those of the range).", "state"),
		addresses:  desc("isthmus_synthetic_addresses", "Addresses that stand for pods of other networks, by state: used, or total (those of the range).", "state"),
	}
}

// Describe is prometheus.Collector's.
func (c *census) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.exports, c.imports, c.entryPorts, c.addresses} {
		ch <- d
	}
}

// Collect is prometheus.Collector's.
func (c *census) Collect(ch chan<- prometheus.Metric) {
	n := c.count()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(c.exports, float64(n.exports))
	gauge(c.imports, float64(n.imports))
	gauge(c.entryPorts, float64(n.ports), "used")
	gauge(c.entryPorts, float64(c.ports.Last)-float64(c.ports.First)+1, "total")
	gauge(c.addresses, float64(n.addresses), "used")
	gauge(c.addresses, math.Exp2(float64(32-c.synthetic.Bits())), "total")
}

type counts struct{ exports, imports, ports, addresses int }

func (c *census) count() (n counts) {
	s := c.latest()
	if s == nil {
		return n
	}
	for svc := range s.Services() {
		if !svc.Key.ClusterSet() {
			continue
		}
		imported := false
		for i := range svc.Exports {
			imported = imported || !svc.Exports[i].Hidden
			if svc.Exports[i].Cluster == c.cluster {
				n.exports++
			}
		}
		if imported {
			n.imports++
		}
		for _, p := range svc.EntryPorts {
			if p.Cluster == c.cluster {
				n.ports++
			}
		}
		for _, a := range svc.Synthetic {
			if a.In == c.cluster {
				n.addresses++
			}
		}
	}
	return n
}
