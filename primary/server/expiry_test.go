package server

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
)

// An authority in the last quarter of its life is an alarm, a young one is not,
// and both tell their end. (faults 38)
func TestExpiry(t *testing.T) {
	domain, err := trust.ParseDomain("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	root, err := ca.CreateRoot(ca.RootOptions{Domain: domain, Lifetime: 100 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	chain, key, err := root.Intermediate("east")
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.New(ca.Options{Cluster: "east", Domain: domain, ChainPEM: chain, KeyPEM: key, BundlePEM: root.CertificatePEM()})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	metrics := prometheus.NewRegistry()
	e := newExpiry(authority, metrics, slog.New(slog.NewTextHandler(&log, nil)))
	e.look(time.Now().Add(70 * 24 * time.Hour))
	if log.Len() > 0 {
		t.Errorf("alarm too early: %s", log.String())
	}
	e.look(time.Now().Add(80 * 24 * time.Hour))
	if !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("no alarm: %q", log.String())
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if got, want := f.Metric[0].Gauge.GetValue(), float64(root.Certificate().NotAfter.Unix()); got != want {
			t.Errorf("%s is %v, want %v", f.GetName(), got, want)
		}
	}
	if len(families) != 2 {
		t.Errorf("%d metrics", len(families))
	}
}
