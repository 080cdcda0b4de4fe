// Package resources writes the xDS messages that docs/xds.md promises. Each
// generator is a function of its arguments: equal arguments give equal bytes,
// so a version is a hash and two replicas agree on it. Every type has its own
// narrow key, comparable, so that a cache of encodings cannot miss an input.
package resources

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Type is one of the xDS resource types that Isthmus serves, in the order in
// which a client must receive them.
type Type uint8

const (
	Cluster Type = iota
	Endpoints
	Listener
	Route
	TypeCount = iota
)

const typePrefix = "type.googleapis.com/"

// URL returns the type URL.
func (t Type) URL() string {
	switch t {
	case Cluster:
		return typePrefix + "envoy.config.cluster.v3.Cluster"
	case Endpoints:
		return typePrefix + "envoy.config.endpoint.v3.ClusterLoadAssignment"
	case Listener:
		return typePrefix + "envoy.config.listener.v3.Listener"
	case Route:
		return typePrefix + "envoy.config.route.v3.RouteConfiguration"
	}
	return ""
}

// String returns the short name by which xDS people know the type.
func (t Type) String() string {
	switch t {
	case Cluster:
		return "cds"
	case Endpoints:
		return "eds"
	case Listener:
		return "lds"
	case Route:
		return "rds"
	}
	return "unknown"
}

// Wildcard reports whether a client is sent all resources of the type that it
// may see; the others are subscribed to by name.
func (t Type) Wildcard() bool { return t == Cluster || t == Listener }

// ParseType returns the type of url, and false for one that is not served.
func ParseType(url string) (Type, bool) {
	for t := range Type(TypeCount) {
		if t.URL() == url {
			return t, true
		}
	}
	return 0, false
}

// Resource is one encoded xDS resource. Nobody changes it after its generator
// has made it, and any number of streams send it at once.
type Resource struct {
	Type    Type
	Name    string
	Version string // hash of the bytes, never empty
	Body    *anypb.Any
	Delta   *discoveryv3.Resource // Name, Version and Body as delta xDS sends them
	// Assignment names the load assignment that an xds cluster waits for; empty
	// where it has none.
	Assignment string
	// Empty says of a load assignment that it has no endpoints, and Wide that
	// several clusters' would be in it.
	Empty, Wide bool
}

// Size returns the length of the encoded message in bytes.
func (r *Resource) Size() int { return len(r.Body.Value) }

// ErrInvalid is wrapped by every error of a generator: the service (or pod)
// cannot be expressed, and is left out alone.
var ErrInvalid = errors.New("cannot be expressed in xds")

// validated is what go-control-plane's messages have.
type validated interface {
	proto.Message
	ValidateAll() error
}

// seal checks and encodes a finished message.
func seal(t Type, name string, m validated) (*Resource, error) {
	if err := m.ValidateAll(); err != nil {
		return nil, fmt.Errorf("%w: %s %s: %w", ErrInvalid, t, name, err)
	}
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%w: %s %s: %w", ErrInvalid, t, name, err)
	}
	sum := sha256.Sum256(value)
	r := &Resource{
		Type: t, Name: name, Version: hex.EncodeToString(sum[:8]),
		Body: &anypb.Any{TypeUrl: t.URL(), Value: value},
	}
	r.Delta = &discoveryv3.Resource{Name: name, Version: r.Version, Resource: r.Body}
	switch m := m.(type) {
	case *clusterv3.Cluster:
		r.Assignment = m.GetEdsClusterConfig().GetServiceName()
	case *endpointv3.ClusterLoadAssignment:
		r.Empty = len(m.Endpoints) == 0
	}
	return r, nil
}

var (
	_ validated = (*clusterv3.Cluster)(nil)
	_ validated = (*endpointv3.ClusterLoadAssignment)(nil)
	_ validated = (*listenerv3.Listener)(nil)
	_ validated = (*routev3.RouteConfiguration)(nil)
)

// pack encodes an extension's configuration. The messages are our own and
// valid, so an error would be a fault of this package: it surfaces when the
// resource around it is sealed, since an Any without type URL is refused.
func pack(m proto.Message) *anypb.Any {
	out := new(anypb.Any)
	if err := anypb.MarshalFrom(out, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil
	}
	return out
}
