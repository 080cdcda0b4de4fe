// Package xds keeps a proxy's configuration: a delta ADS client that accepts
// what is good and refuses what is not, the last good configuration on disk,
// and a relay that serves the same stream to a local Envoy.
package xds

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Type URLs of the resources that the client subscribes to.
const (
	TypeCluster  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	TypeEndpoint = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	TypeListener = "type.googleapis.com/envoy.config.listener.v3.Listener"
	TypeRoute    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

// Types returns the type URLs in the order in which they are asked for.
func Types() []string { return []string{TypeCluster, TypeEndpoint, TypeListener, TypeRoute} }

// wildcard reports whether all resources of a type are asked for, rather than those referred to.
func wildcard(typeURL string) bool { return typeURL == TypeCluster || typeURL == TypeListener }

// State is an accepted configuration: type URL, then name, then message. It and
// everything in it is immutable.
type State map[string]map[string]proto.Message

// An Applier uses the configuration. The client calls it from one goroutine.
type Applier interface {
	// Check validates one resource by itself. An error refuses that resource
	// only; the others of the response are applied.
	Check(typeURL, name string, m proto.Message) error
	// Apply switches to the complete accepted state at once, or returns an error
	// and stays with what it had.
	Apply(State) error
}

// A Resource is one accepted resource.
type Resource struct {
	Version string
	Body    *anypb.Any
	Message proto.Message
}

// A Refusal says which version of which resource was refused, and why.
type Refusal struct {
	Name    string    `json:"name"`
	Version string    `json:"version"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// TypeStatus is the state of one resource type.
type TypeStatus struct {
	Held    int       `json:"held"`
	Refused []Refusal `json:"refused,omitempty"` // sorted by name
	Missing []string  `json:"missing,omitempty"` // referred to, not received; sorted
}

// Status is the client's state at one moment.
type Status struct {
	Connected bool                  `json:"connected"`
	Since     time.Time             `json:"since"`               // of Connected's last change
	LastError string                `json:"lastError,omitempty"` // of the last stream that ended
	LastGood  bool                  `json:"lastGood"`            // what is held was read from disk and not yet confirmed
	Ready     bool                  `json:"ready"`
	Types     map[string]TypeStatus `json:"types"`
}
