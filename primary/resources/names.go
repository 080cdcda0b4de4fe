package resources

import (
	"fmt"
	"strconv"

	"github.com/isthmus-mesh/isthmus/federation"
)

// Names that are not made from a service. See docs/xds.md.
const (
	OutboundName    = "outbound"    // sidecar: listener for what leaves the pod
	InboundName     = "inbound"     // sidecar: listener for what enters it, and the xds cluster of undeclared ports
	PassthroughName = "passthrough" // sidecar: xds cluster to the original destination
	EastWestName    = "east-west"   // gateway: listener
	EntryName       = "entry"       // entry gateway: listener
	EntryPrefix     = "entry|"      // entry gateway: what the names of its xds clusters begin with
	blackholeName   = "blackhole"   // no such xds cluster: what sni_cluster and set_filter_state replace

	sdsCluster = "sds-grpc" // static in the bootstrap
	certName   = "default"  // secret: the SVID
	rootName   = "ROOTCA"   // secret: the trust bundle
)

// OutboundKey names a port of a service, or of one pod of a headless service,
// as its listener, route configuration, xds cluster and load assignment do.
type OutboundKey struct {
	Service federation.ServiceKey
	Port    uint16
	Pod     string // empty for the service as a whole
}

// String returns outbound|PORT|POD|HOST.
func (k OutboundKey) String() string {
	return "outbound|" + strconv.Itoa(int(k.Port)) + "|" + k.Pod + "|" + k.Service.Hostname()
}

// inboundCluster names the xds cluster that leads to the application's port.
func inboundCluster(port uint16) string { return fmt.Sprintf("inbound|%d||", port) }

// entryCluster names the xds cluster of a port of the entry gateway.
func entryCluster(port uint16) string { return EntryPrefix + strconv.Itoa(int(port)) }
