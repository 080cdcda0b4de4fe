package ingest

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/mcs"
)

// Name names an object within a cluster. Namespace is empty for Nodes.
type Name struct{ Namespace, Name string }

// Compare orders names by namespace and name.
func (n Name) Compare(o Name) int {
	return cmp.Or(cmp.Compare(n.Namespace, o.Namespace), cmp.Compare(n.Name, o.Name))
}

func (n Name) String() string { return n.Namespace + "/" + n.Name }

// Kind is a kind of object that Build reads.
type Kind uint8

const (
	KindService Kind = iota
	KindSlice
	KindPod
	KindNode
	KindNamespace
	KindExport
	KindPolicy // PeerAuthentication
	KindImport // ServiceImport
)

// Object is a slimmed Kubernetes object: one of the types below. Whoever made
// it does not change it any more.
type Object interface {
	Kind() Kind
	ID() Name
}

// Service is a slimmed core/v1 Service.
type Service struct {
	Name
	External bool // ExternalName
	Headless bool
	IPs      []netip.Addr // cluster IPs, the primary family's first
	Ports    []ServicePort
	SameZone bool
	Import   string // name of the ServiceImport that this Service is derived from, or ""
	Spec     mcs.Spec

	Entry bool // that of entry gateways

	// Gateway says that this is an east-west gateway's Service; the rest is for those alone.
	Gateway   bool
	ByHand    string   // AnnotationGatewayAddresses
	Balancers []string // load balancer and external addresses, "IP" or "hostname"
	NodePort  bool     // type NodePort, so node addresses lead to it
}

// ServicePort is a port of a Service, of any transport protocol.
type ServicePort struct {
	mcs.Port
	Protocol federation.Protocol
	NodePort uint16
	Target   string // number or name
}

// Slice is a slimmed EndpointSlice.
type Slice struct {
	Name
	Service   string // name of the Service, or of the import where Source is set
	Source    federation.ClusterName
	Since     time.Time // creation of an imported one, to the second
	Ports     []SlicePort
	Others    []OtherPort
	Endpoints []SliceEndpoint
	// Checkpoint is what the annotation of an imported slice says; nil where it
	// has none, or one that BadCheckpoint tells is wrong.
	Checkpoint    *federation.Checkpoint
	BadCheckpoint string
	// EntryPorts is what api.AnnotationEntryPorts on an imported slice says, and
	// BadEntryPorts why it says nothing.
	EntryPorts    []federation.EntryPort
	BadEntryPorts string
}

// SlicePort is a TCP port of a slice.
type SlicePort struct {
	Name   string
	Number uint16
}

// OtherPort is a port of a slice that is not TCP.
type OtherPort struct {
	Name, Transport string
	Number          uint16
}

// SliceEndpoint is an endpoint of a slice. Addr is not valid where the text
// in Bad is no IP address.
type SliceEndpoint struct {
	Addr     netip.Addr
	Bad      string
	Pod      string // target reference
	Node     string
	Zone     string
	Hostname string
	Health   federation.Health
}

// Pod is a slimmed Pod.
type Pod struct {
	Name
	UID         string
	Account     string // service account
	Node        string
	Addrs       []netip.Addr
	Injected    bool
	HostNetwork bool
	Done        bool // succeeded or failed: its addresses are somebody else's
	Labels      map[string]string
}

// Node is a slimmed Node.
type Node struct {
	Node     string
	Locality federation.Locality
	Addrs    []netip.Addr // external ones if there are any, else internal ones
	All      []netip.Addr // external and internal ones
	CIDRs    []netip.Prefix
}

// Namespace is a slimmed Namespace. Of all but the system namespace and
// kube-system only Refused is read, and that in served clusters only.
type Namespace struct {
	Namespace string
	UID       string
	Network   string // AnnotationNetwork or LabelTopologyNetwork
	// Drain is what AnnotationDrain says, and BadDrain why it says nothing.
	Drain    *federation.Drain
	BadDrain string
	Refused  bool // api.LabelEntry shuts its pods out of the entry gateway
}

// Export is a slimmed ServiceExport.
type Export struct {
	Name
	Since               time.Time
	Labels, Annotations map[string]string // exported ones, from the spec
	Terms
}

// Policy is a slimmed PeerAuthentication.
type Policy struct {
	Name
	Since    time.Time
	Selector map[string]string
	Mode     Mode
	Ports    map[uint32]Mode
	Bad      string // why it is unusable, or ""
}

// Mode is the mTLS mode that a policy asks for.
type Mode uint8

const (
	ModeUnset Mode = iota // as the policy above says
	ModeDisable
	ModePermissive
	ModeStrict
)

// Import is a slimmed ServiceImport.
type Import struct {
	Name
	IPs []netip.Addr
}

func (*Service) Kind() Kind   { return KindService }
func (*Slice) Kind() Kind     { return KindSlice }
func (*Pod) Kind() Kind       { return KindPod }
func (*Node) Kind() Kind      { return KindNode }
func (*Namespace) Kind() Kind { return KindNamespace }
func (*Export) Kind() Kind    { return KindExport }
func (*Policy) Kind() Kind    { return KindPolicy }
func (*Import) Kind() Kind    { return KindImport }

func (s *Service) ID() Name   { return s.Name }
func (s *Slice) ID() Name     { return s.Name }
func (p *Pod) ID() Name       { return p.Name }
func (n *Node) ID() Name      { return Name{Name: n.Node} }
func (n *Namespace) ID() Name { return Name{Name: n.Namespace} }
func (e *Export) ID() Name    { return e.Name }
func (p *Policy) ID() Name    { return p.Name }
func (i *Import) ID() Name    { return i.Name }
