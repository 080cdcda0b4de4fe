package envoy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const (
	adminTimeout = 5 * time.Second
	maxAnswer    = 64 << 20 // bytes
)

// Admin talks to Envoy's admin socket.
type Admin struct{ client *http.Client }

// NewAdmin returns a client of the unix socket at path.
func NewAdmin(path string) *Admin {
	return &Admin{&http.Client{Timeout: adminTimeout, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true, // the process behind it may be another the next time
	}}}
}

func (a *Admin) do(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://envoy"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask envoy: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask envoy: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("envoy %s: %s", path, strings.TrimSpace(string(body)))
	}
	return body, nil
}

// Ready says why Envoy does not serve; nil when it does.
func (a *Admin) Ready(ctx context.Context) error {
	_, err := a.do(ctx, http.MethodGet, "/ready")
	return err
}

// JSON returns a page that Envoy gives as JSON.
func (a *Admin) JSON(ctx context.Context, path string) (json.RawMessage, error) {
	body, err := a.do(ctx, http.MethodGet, path)
	if err == nil && !json.Valid(body) {
		err = fmt.Errorf("envoy %s: no JSON", path)
	}
	return body, err
}

// Drain has Envoy ask its callers to leave, or with refuse take no new ones, and
// returns when no connection is left or ctx ends.
func (a *Admin) Drain(ctx context.Context, refuse bool) error {
	how := "/drain_listeners?graceful&skip_exit"
	if refuse {
		how = "/drain_listeners" // closes the sockets that listen; what is open goes on
	}
	if _, err := a.do(ctx, http.MethodPost, how); err != nil {
		return err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		open, err := a.open(ctx)
		if err == nil && open == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("drain: %v connections left: %w", open, ctx.Err())
		case <-tick.C:
		}
	}
}

// open returns how many downstream connections Envoy has.
func (a *Admin) open(ctx context.Context) (float64, error) {
	body, err := a.do(ctx, http.MethodGet, "/stats?filter=^listener\\..*\\.downstream_cx_active$&format=json")
	if err != nil {
		return 0, err
	}
	var stats struct {
		Stats []struct {
			Name  string  `json:"name"`
			Value float64 `json:"value"`
		} `json:"stats"`
	}
	if err := json.Unmarshal(body, &stats); err != nil {
		return 0, fmt.Errorf("envoy stats: %w", err)
	}
	sum := 0.0
	for _, s := range stats.Stats {
		if !strings.HasPrefix(s.Name, "listener.admin.") {
			sum += s.Value
		}
	}
	return sum, nil
}

// Gather implements prometheus.Gatherer: it returns Envoy's own metrics. While
// Envoy does not answer there are none.
func (a *Admin) Gather() ([]*dto.MetricFamily, error) {
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	body, err := a.do(ctx, http.MethodGet, "/stats/prometheus?usedonly")
	if err != nil {
		return nil, nil //nolint:nilerr // readiness says so
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(body)))
	if err != nil {
		return nil, fmt.Errorf("envoy metrics: %w", err)
	}
	out := make([]*dto.MetricFamily, 0, len(families))
	for _, f := range families {
		out = append(out, f)
	}
	return out, nil
}
