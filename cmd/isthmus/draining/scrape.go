package draining

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// flow is traffic of one kind that a proxy has told of: who calls what.
type flow struct {
	Target string // the host that was called, as the caller named it; or, at the callee, NAMESPACE/WORKLOAD
	From   string // at the callee the caller's cluster; empty: it has no sidecar
	Source bool   // told by the caller
}

// counts are a proxy's own at one moment.
type counts struct {
	requests map[flow]float64 // so far
	open     map[flow]float64 // TCP connections
	passing  map[string]int64 // connections that a gateway passes on, by server name
}

// Metrics that are read, and the admin page of xds clusters.
const (
	metricRequests = "istio_requests_total"
	metricOpened   = "istio_tcp_connections_opened_total"
	metricClosed   = "istio_tcp_connections_closed_total"
	pageMetrics    = "/stats/prometheus"
	pageClusters   = "/clusters?format=json"
)

// scrape asks a proxy by its tunnel. home is the drained cluster: of what the pod
// itself calls, only what stays there counts.
func scrape(ctx context.Context, t *cluster.Tunnel, home string, gateway bool) (counts, error) {
	out := counts{requests: map[flow]float64{}, open: map[flow]float64{}, passing: map[string]int64{}}
	page, err := t.Get(ctx, pageMetrics)
	if err != nil {
		return out, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		return out, fmt.Errorf("read metrics: %w", err)
	}
	if !gateway {
		sum(families[metricRequests], home, 1, out.requests)
		sum(families[metricOpened], home, 1, out.open)
		sum(families[metricClosed], home, -1, out.open)
	}
	if page, err = t.Get(ctx, pageClusters); err != nil {
		return out, err
	}
	return out, out.readClusters(page, home, gateway)
}

// The caller of requests that are under way is the proxy itself.
const underWay = "requests under way"

// sum adds the values of a family, times sign, by flow.
func sum(family *dto.MetricFamily, home string, sign float64, into map[flow]float64) {
	for _, m := range family.GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			if l.GetValue() != "unknown" {
				labels[l.GetName()] = l.GetValue()
			}
		}
		f, ok := flowOf(labels, home)
		if ok {
			into[f] += sign * m.GetCounter().GetValue()
		}
	}
}

// flowOf reads a metric's labels. What own callers do is told by them, who know
// the name that they called; so the callee's word counts for others alone.
func flowOf(labels map[string]string, home string) (flow, bool) {
	switch labels["reporter"] {
	case "source":
		return flow{Target: labels["destination_service"], From: labels["source_workload_namespace"] + "/" + labels["source_workload"], Source: true},
			labels["destination_cluster"] == home && labels["destination_service"] != ""
	case "destination":
		from := labels["source_cluster"]
		return flow{Target: labels["destination_workload_namespace"] + "/" + labels["destination_workload"], From: from}, from != home
	}
	return flow{}, false
}

// builtinCluster and envoyClusters are what the page of xds clusters holds of each
// data plane.
type builtinCluster struct {
	Name        string `json:"name"`
	Connections int64  `json:"connections"`
	Hosts       []struct {
		Cluster string `json:"cluster"`
		Active  int64  `json:"active"` // requests
	} `json:"hosts"`
}

type envoyClusters struct {
	Statuses []struct {
		Name  string `json:"name"`
		Hosts []struct {
			Stats []struct {
				Name  string `json:"name"`
				Value string `json:"value"`
			} `json:"stats"`
		} `json:"host_statuses"`
	} `json:"cluster_statuses"`
}

func (c *counts) readClusters(page []byte, home string, gateway bool) error {
	var all []builtinCluster
	if bytes.HasPrefix(bytes.TrimSpace(page), []byte("[")) {
		if err := json.Unmarshal(page, &all); err != nil {
			return fmt.Errorf("read %s: %w", pageClusters, err)
		}
	} else {
		var envoy envoyClusters
		if err := json.Unmarshal(page, &envoy); err != nil {
			return fmt.Errorf("read %s: %w", pageClusters, err)
		}
		all = envoy.builtin()
	}
	for _, x := range all {
		if host := x.Name[strings.LastIndex(x.Name, "|")+1:]; gateway && strings.HasSuffix(x.Name, "."+api.SNISuffix) {
			c.passing[x.Name] += x.Connections
		} else if !gateway && strings.HasPrefix(x.Name, "outbound|") {
			for _, h := range x.Hosts {
				if h.Cluster == home && h.Active > 0 {
					c.open[flow{Target: host, From: underWay, Source: true}] += float64(h.Active)
				}
			}
		}
	}
	return nil
}

// builtin says the same in the other form.
func (e envoyClusters) builtin() []builtinCluster {
	var out []builtinCluster
	for _, s := range e.Statuses {
		x := builtinCluster{Name: s.Name}
		for _, h := range s.Hosts {
			for _, stat := range h.Stats {
				if n, err := strconv.ParseInt(stat.Value, 10, 64); err == nil && stat.Name == "cx_active" {
					x.Connections += n
				}
			}
		}
		out = append(out, x)
	}
	return out
}
