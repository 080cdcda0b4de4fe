// Package health serves a proxy's readiness and the rewritten probes of the
// application beside it, which kubelet cannot reach itself: strict mTLS would
// refuse it, and a redirected port accepts any connection.
package health

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
)

// Limits on the probes of one pod.
const (
	maxProbesBytes = api.MaxProbesBytes
	maxProbes      = api.MaxProbes
	maxTimeout     = 10 * time.Minute
)

// Prefix is the path under which rewritten probes are served.
const Prefix = "/app-health/"

// A Probe is what kubelet would have done itself. Exactly one of HTTP, TCP and
// GRPC is set.
type Probe struct {
	HTTP           *HTTPProbe `json:"httpGet,omitempty"`
	TCP            *TCPProbe  `json:"tcpSocket,omitempty"`
	GRPC           *GRPCProbe `json:"grpc,omitempty"`
	TimeoutSeconds int        `json:"timeoutSeconds,omitempty"` // 0 means 1
}

// HTTPProbe is Kubernetes' HTTPGetAction with its port as a number.
type HTTPProbe struct {
	Path    string   `json:"path,omitempty"`
	Port    int      `json:"port"`
	Host    string   `json:"host,omitempty"`   // "" means the pod
	Scheme  string   `json:"scheme,omitempty"` // "" means HTTP
	Headers []Header `json:"httpHeaders,omitempty"`
}

// Header is one header of an HTTPProbe.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// TCPProbe is Kubernetes' TCPSocketAction with its port as a number.
type TCPProbe struct {
	Port int    `json:"port"`
	Host string `json:"host,omitempty"` // "" means the pod
}

// GRPCProbe is Kubernetes' GRPCAction.
type GRPCProbe struct {
	Port    int    `json:"port"`
	Service string `json:"service,omitempty"`
}

// ParseProbes reads the probes by path, as the webhook writes them. Empty text
// is no probes; a field that is not known is an error.
func ParseProbes(text string) (map[string]Probe, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	if len(text) > maxProbesBytes {
		return nil, fmt.Errorf("probes: longer than %d bytes", maxProbesBytes)
	}
	var probes map[string]Probe
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&probes); err != nil {
		return nil, fmt.Errorf("probes: %w", err)
	}
	if d.More() {
		return nil, errors.New("probes: more than one JSON value")
	}
	if len(probes) > maxProbes {
		return nil, fmt.Errorf("probes: %d, at most %d", len(probes), maxProbes)
	}
	for path, p := range probes {
		if err := p.check(path); err != nil {
			return nil, fmt.Errorf("probe %q: %w", path, err)
		}
	}
	return probes, nil
}

func (p Probe) check(path string) error {
	if !strings.HasPrefix(path, Prefix) {
		return fmt.Errorf("path is not under %s", Prefix)
	}
	if p.TimeoutSeconds < 0 || p.Timeout() > maxTimeout {
		return fmt.Errorf("timeoutSeconds %d is out of range", p.TimeoutSeconds)
	}
	var ports []int
	if p.HTTP != nil {
		ports = append(ports, p.HTTP.Port)
		if s := strings.ToUpper(p.HTTP.Scheme); s != "" && s != "HTTP" && s != "HTTPS" {
			return fmt.Errorf("scheme %q is neither HTTP nor HTTPS", p.HTTP.Scheme)
		}
	}
	if p.TCP != nil {
		ports = append(ports, p.TCP.Port)
	}
	if p.GRPC != nil {
		ports = append(ports, p.GRPC.Port)
	}
	if len(ports) != 1 {
		return fmt.Errorf("%d of httpGet, tcpSocket and grpc, want one", len(ports))
	}
	if ports[0] < 1 || ports[0] > 65535 {
		return fmt.Errorf("port %d is out of range", ports[0])
	}
	return nil
}

// Timeout is how long the application may take.
func (p Probe) Timeout() time.Duration {
	return time.Duration(max(p.TimeoutSeconds, 1)) * time.Second
}

// PodAddress returns the address that kubelet would probe: the pod's first.
// Empty text gives loopback.
func PodAddress(ips string) (netip.Addr, error) {
	first, _, _ := strings.Cut(ips, ",")
	if first = strings.TrimSpace(first); first == "" {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	return netip.ParseAddr(first)
}
