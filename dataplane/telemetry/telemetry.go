// Package telemetry counts requests and connections of the data plane under
// the names that dashboards made for Istio read.
package telemetry

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/trust"
)

const unknown = "unknown" // Istio's word for what is not known

// Reporter values.
const (
	Source      = "source"
	Destination = "destination"
)

// Connection security policies.
const (
	PolicyMTLS    = "mutual_tls"
	PolicyNone    = "none"
	PolicyUnknown = "unknown"
)

// Node is this proxy, as its environment names it.
type Node struct {
	Cluster, Namespace, Pod, Workload, Account string
	Principal                                  trust.ID
}

// Party is one end of a call; empty fields are unknown.
type Party struct {
	Workload, Namespace, Cluster string
	Principal                    trust.ID
}

// Call is what both kinds of telemetry say of who called what.
type Call struct {
	Reporter    string
	Source      Party
	Destination Party
	// Service, ServiceName and ServiceNamespace are the destination service's
	// host, name and namespace.
	Service, ServiceName, ServiceNamespace string
	Protocol                               string // http, grpc or tcp
	Policy                                 string
	Flags                                  string // Envoy's response flags; "-" for none
}

// Recorder holds the metrics.
type Recorder struct {
	requests       *prometheus.CounterVec
	duration       *prometheus.HistogramVec
	opened, closed *prometheus.CounterVec
	sent, received *prometheus.CounterVec
	connections    prometheus.Gauge
	refused        *prometheus.CounterVec
}

var callLabels = []string{
	"reporter",
	"source_workload", "source_workload_namespace", "source_principal", "source_cluster",
	"destination_workload", "destination_workload_namespace", "destination_principal", "destination_cluster",
	"destination_service", "destination_service_name", "destination_service_namespace",
	"request_protocol", "connection_security_policy", "response_flags",
}

var durationBuckets = []float64{0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000}

// New makes the metrics and registers them with reg, which may be nil.
func New(reg prometheus.Registerer) (*Recorder, error) {
	httpLabels := append(append([]string(nil), callLabels...), "response_code", "grpc_response_status")
	counter := func(name, help string, labels []string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	r := &Recorder{
		requests: counter("istio_requests_total", "Requests.", httpLabels),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "istio_request_duration_milliseconds", Help: "Time from the first byte of a request to the last of its response.", Buckets: durationBuckets,
		}, httpLabels),
		opened:      counter("istio_tcp_connections_opened_total", "TCP connections opened.", callLabels),
		closed:      counter("istio_tcp_connections_closed_total", "TCP connections closed.", callLabels),
		sent:        counter("istio_tcp_sent_bytes_total", "Bytes sent to callers of TCP connections.", callLabels),
		received:    counter("istio_tcp_received_bytes_total", "Bytes received from callers of TCP connections.", callLabels),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_proxy_connections", Help: "Connections open at the proxy's listeners."}),
		refused:     counter("isthmus_proxy_connections_refused_total", "Connections closed by the proxy itself, by reason.", []string{"reason"}),
	}
	if reg == nil {
		return r, nil
	}
	for _, c := range []prometheus.Collector{r.requests, r.duration, r.opened, r.closed, r.sent, r.received, r.connections, r.refused} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return r, nil
}

// Request counts one request: code is the status sent to the caller, grpc the
// gRPC status or "".
func (r *Recorder) Request(c Call, code int, grpc string, took time.Duration) {
	values := append(c.values(), strconv.Itoa(code), grpcStatus(grpc))
	r.requests.WithLabelValues(values...).Inc()
	r.duration.WithLabelValues(values...).Observe(float64(took) / float64(time.Millisecond))
}

// grpcStatus bounds what an application may make labels of: there are 17 codes.
func grpcStatus(s string) string {
	if n, err := strconv.ParseUint(s, 10, 8); s != "" && (err != nil || n > 16) {
		return unknown
	}
	return s
}

// Opened counts a TCP connection that was connected through.
func (r *Recorder) Opened(c Call) { r.opened.WithLabelValues(c.values()...).Inc() }

// Closed counts its end, with the bytes sent to the caller and received from it.
func (r *Recorder) Closed(c Call, sent, received int64) {
	values := c.values()
	r.closed.WithLabelValues(values...).Inc()
	r.sent.WithLabelValues(values...).Add(float64(sent))
	r.received.WithLabelValues(values...).Add(float64(received))
}

// Connection counts a downstream connection; the returned function ends it.
func (r *Recorder) Connection() func() {
	r.connections.Inc()
	return r.connections.Dec
}

// Refused counts a connection that the proxy closed for a reason of its own.
func (r *Recorder) Refused(reason string) { r.refused.WithLabelValues(reason).Inc() }

func (c Call) values() []string {
	return []string{
		c.Reporter,
		or(c.Source.Workload), or(c.Source.Namespace), or(c.Source.Principal.String()), or(c.Source.Cluster),
		or(c.Destination.Workload), or(c.Destination.Namespace), or(c.Destination.Principal.String()), or(c.Destination.Cluster),
		or(c.Service), or(c.ServiceName), or(c.ServiceNamespace),
		or(c.Protocol), or(c.Policy), or(c.Flags),
	}
}

func or(s string) string {
	if s == "" {
		return unknown
	}
	return s
}
