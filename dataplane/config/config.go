// Package config turns xDS resources into the immutable configuration of the
// built-in data plane. Check refuses what is not implemented, by the path of
// the field; Build shares with the last configuration whatever did not change.
// It does no I/O.
package config

import (
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/trust"
)

// Config is everything that the control plane has sent and the proxy has
// accepted. Nothing changes it after Build; two configurations share by pointer
// what is equal in both, so that pointer equality tests for sameness.
type Config struct {
	Listeners   map[string]*Listener
	Clusters    map[string]*Cluster
	Assignments map[string]*Assignment
	Routes      map[string]*Routes
}

// Direction says which way a listener's traffic goes.
type Direction uint8

const (
	DirectionNone Direction = iota // a gateway
	DirectionInbound
	DirectionOutbound
)

// Listener takes connections at its addresses: from a socket where Bind is set,
// otherwise from a listener with UseOriginalDst.
type Listener struct {
	Name           string
	Addresses      []netip.AddrPort
	Bind           bool
	Direction      Direction
	UseOriginalDst bool // hand the connection to the listener of its original destination
	OriginalDst    bool // the filter: restore the destination, stay in this listener
	TLSInspector   bool
	HTTPInspector  bool
	// InspectTimeout bounds the inspectors; 0 means no bound. When it ends the
	// connection goes on undetected if ContinueOnTimeout, else it is closed.
	InspectTimeout    time.Duration
	ContinueOnTimeout bool
	Chains            []*Chain
	Default           *Chain // nil: what matches no chain is closed

	source proto.Message
}

// Match selects a filter chain. Zero fields match anything.
type Match struct {
	Port         uint16
	ServerNames  []string // lower case; "*.suffix" matches names below suffix
	Transport    string   // "tls", "raw_buffer" or ""
	Applications []string // ALPN names, or http/1.0, http/1.1, h2c of the HTTP inspector
	Sources      *Sources // of the direct peer's address; nil is any
}

// SameButSources reports whether m and o differ in the source ranges at most.
func (m Match) SameButSources(o Match) bool {
	return m.Port == o.Port && m.Transport == o.Transport && slices.Equal(m.ServerNames, o.ServerNames) && slices.Equal(m.Applications, o.Applications)
}

// Chain is what is done with a connection. Exactly one of TCP, HTTP and Direct is set.
type Chain struct {
	Name       string
	Match      Match
	TLS        *DownstreamTLS // nil: plaintext
	Access     []*Access      // each must allow the caller, before anything is dialled
	SNICluster bool           // TCP's xds cluster is the connection's server name
	Cluster    *ClusterFormat // what TCP's xds cluster is by the port; nil: as TCP says
	TCP        *TCPProxy
	HTTP       *HTTPManager
	Direct     *DirectResponse

	key  string // deterministic bytes of the source
	rest string // the same without the source ranges
}

// SameButSources reports whether c and o differ in the source ranges alone, so
// that connections of one are as well served by the other.
func (c *Chain) SameButSources(o *Chain) bool { return c.rest == o.rest }

// DownstreamTLS is mTLS with our own SVID; ALPN is what is accepted.
type DownstreamTLS struct {
	ALPN          []string
	RequireClient bool
	Clients       []SAN // one of which the client must prove; empty: anybody of the trust bundle
}

// SAN is a name in a certificate, to be met exactly.
type SAN struct {
	DNS  bool // a DNS name, lower case; else a URI
	Name string
}

// TCPProxy copies bytes to Cluster.
type TCPProxy struct {
	Cluster     string
	MaxConnects int           // attempts, at least 1
	IdleTimeout time.Duration // 0 means none
	MaxDuration time.Duration // of a connection, dialling included; 0 means no bound
}

// DirectResponse writes Body and closes.
type DirectResponse struct{ Body []byte }

// HTTPManager serves HTTP. Its routes are Routes, or those named RouteName.
type HTTPManager struct {
	RouteName     string
	Routes        *Routes
	Upgrades      []string // lower case
	SetXFCC       bool     // set it from the verified peer; it is always stripped first
	XFCCURI       bool
	XFCCDNS       bool
	NormalizePath bool
	ServerName    string
	PassServer    bool // leave the server header as the upstream sent it
	RequestID     bool
	// Unreached is a header, set on the proxy's own answers to requests whose
	// upstream could not be connected to; the zero Header is none.
	Unreached Header
}

// Header is a header's canonical name and its value.
type Header struct{ Name, Value string }

// Routes is a route configuration with one virtual host for all hosts.
type Routes struct {
	Name   string
	Routes []Route
	Remove []string // response headers that the caller does not see; canonical

	source proto.Message
}

// Route leads requests whose path starts with Prefix to Cluster.
type Route struct {
	Prefix  string
	Cluster string
	Timeout time.Duration // 0 means none
	Retry   Retry
}

// Retry says which failures of an attempt move the request to another host.
type Retry struct {
	ConnectFailure bool
	RefusedStream  bool
	ResetBefore    bool     // reset before the request was sent
	Attempts       int      // retries, not counting the first attempt
	OtherHosts     bool     // previous_hosts
	Headers        []string // response headers that ask for a retry; canonical
	// PriorityEvery is previous_priorities' update_frequency: after so many
	// attempts the priorities tried are left out. 0 means never.
	PriorityEvery int
}

// ClusterType says where an xds cluster's hosts come from.
type ClusterType uint8

const (
	ClusterEDS ClusterType = iota
	ClusterOriginalDst
)

// Cluster is an xds cluster: a set of hosts and how they are called.
type Cluster struct {
	Name           string
	Type           ClusterType
	Assignment     string // of EDS clusters
	ConnectTimeout time.Duration
	LeastRequest   bool
	LocalityWeight bool
	Limits         Limits
	Outlier        *Outlier // nil: none
	Keepalive      *Keepalive
	SocketOptions  []SocketOption
	HTTP           *HTTPOptions // nil: HTTP/1.1
	Sockets        []SocketMatch
	Socket         *UpstreamTLS // where no match of Sockets applies; nil: plaintext
	Service        ServiceInfo

	source proto.Message
}

// ServiceInfo is the metadata "isthmus" of an xds cluster, for telemetry.
type ServiceInfo struct{ Host, Namespace, Name, Port string }

// Limits are the circuit breakers.
type Limits struct{ Connections, Pending, Requests, Retries uint32 }

// Outlier detection by failures on our side of the connection.
type Outlier struct {
	ConsecutiveLocal uint32
	EnforceLocal     uint32 // per cent
	Interval         time.Duration
	BaseEjection     time.Duration
	MaxEjection      time.Duration
	MaxPercent       uint32
}

// Keepalive is TCP's; Idle and Interval in whole seconds.
type Keepalive struct {
	Idle, Interval time.Duration
	Probes         int
}

// SocketOption is set on every upstream socket before it is connected.
type SocketOption struct{ Level, Name, Value int }

// HTTPVersion says which HTTP an xds cluster is spoken to.
type HTTPVersion uint8

const (
	HTTPDownstream HTTPVersion = iota // as the request came
	HTTP1
	HTTP2
)

// HTTPOptions of an xds cluster. Zero numbers mean no bound.
type HTTPOptions struct {
	Version       HTTPVersion
	MaxStreams    uint32 // per HTTP/2 connection
	PingInterval  time.Duration
	PingTimeout   time.Duration
	IdleTimeout   time.Duration
	MaxDuration   time.Duration
	MaxPerConnect uint32 // requests per connection
}

// SocketMatch gives the transport of hosts whose metadata has all of Match.
type SocketMatch struct {
	Name  string
	Match map[string]string
	TLS   *UpstreamTLS // nil: plaintext
}

// UpstreamTLS is mTLS with our own SVID to one of Peers, which is never empty.
type UpstreamTLS struct {
	ServerName string
	ALPN       []string
	Peers      []trust.ID
}

// Assignment is where the hosts of an xds cluster are.
type Assignment struct {
	Name string
	// Overprovision in per cent: how far the healthy hosts of a priority may
	// stand in for its others.
	Overprovision uint32
	Priorities    []Priority // index is the priority

	source proto.Message
}

// Priority is one level; the next is used where this lacks healthy hosts.
type Priority struct{ Localities []Locality }

// Locality groups hosts. Weight 0 means that it gets nothing where localities
// are weighted.
type Locality struct {
	Region, Zone, SubZone string
	Weight                uint32
	Hosts                 []Host
}

// Health is a host's state as the control plane says.
type Health uint8

const (
	Healthy Health = iota
	Degraded
	Unhealthy
)

// Host is one address.
type Host struct {
	Addr   netip.AddrPort
	Weight uint32
	Health Health
	Match  map[string]string // metadata envoy.transport_socket_match
	// Cluster, Network, Pod and Via are its metadata "isthmus".
	Cluster, Network, Pod, Via string
}
