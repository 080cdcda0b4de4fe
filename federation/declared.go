package federation

import "fmt"

// Declared is what an export, or all exports of a service together, say beyond
// what the mesh carries: ports of every transport protocol, and how callers
// without a sidecar are to be served. It is shown by imports and does not
// change what proxies do. Empty texts mean that nothing was said.
type Declared struct {
	Ports                 []DeclaredPort    `json:"ports,omitempty"` // sorted by number, transport and name
	SessionAffinity       string            `json:"sessionAffinity,omitempty"`
	AffinitySeconds       int32             `json:"affinitySeconds,omitempty"` // of ClientIP
	InternalTrafficPolicy string            `json:"internalTrafficPolicy,omitempty"`
	TrafficDistribution   string            `json:"trafficDistribution,omitempty"`
	Families              []string          `json:"families,omitempty"` // in order of preference
	Labels                map[string]string `json:"labels,omitempty"`
	Annotations           map[string]string `json:"annotations,omitempty"`
}

// DeclaredPort is a port as a Service declares it.
type DeclaredPort struct {
	Name        string `json:"name,omitempty"`
	Transport   string `json:"transport"` // "TCP", "UDP" or "SCTP"
	Number      uint16 `json:"number"`
	AppProtocol string `json:"appProtocol,omitempty"`
}

// OtherPort maps a service's port that is not TCP to the endpoint's own.
type OtherPort struct {
	Transport       string // "UDP" or "SCTP"
	Service, Target uint16
}

// Other returns the endpoint's port number for a port of the service that is
// not TCP, and whether the endpoint has that port.
func (e *Endpoint) Other(transport string, number uint16) (uint16, bool) {
	for _, p := range e.Others {
		if p.Transport == transport && p.Service == number {
			return p.Target, true
		}
	}
	return 0, false
}

// check refuses what no Service can declare. The nil Declared is good.
func (d *Declared) check() error {
	if d == nil {
		return nil
	}
	if len(d.Ports) > MaxCheckpointPorts {
		return fmt.Errorf("%w: too many entries", ErrCheckpoint)
	}
	for _, p := range d.Ports {
		if p.Number == 0 || p.Transport != "TCP" && p.Transport != "UDP" && p.Transport != "SCTP" {
			return fmt.Errorf("%w: declared port %q: number %d, transport %q", ErrCheckpoint, p.Name, p.Number, p.Transport)
		}
	}
	return nil
}
