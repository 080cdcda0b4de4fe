// Package api holds the names that Isthmus shares with its users and between
// its programs: labels, annotations, condition reasons, ports and well-known
// object names. The CRD types are in api/v1alpha1, the certificate service in
// api/ca.
package api

// Ports that Isthmus programs listen on, the same in every cluster. All are TCP.
const (
	PortAdmin         = 15000 // proxy admin and isthmusd debug view, loopback only
	PortOutbound      = 15001 // sidecar, traffic that leaves the pod
	PortInbound       = 15006 // sidecar, traffic that enters the pod
	PortHBONE         = 15008 // reserved for ambient
	PortDiscovery     = 15012 // xDS and the certificate service, TLS only
	PortMetrics       = 15014 // isthmusd metrics
	PortWebhook       = 15017 // isthmusd webhooks
	PortHealth        = 15021 // health of proxies and gateways, and rewritten probes
	PortProxyMetrics  = 15090 // proxy metrics
	PortEntry         = 15444 // entry gateway, where its port range is redirected to
	PortEastWest      = 15443 // east-west gateway
	PortControlHealth = 8080  // isthmusd /healthz and /readyz
)

// Well-known objects of the system namespace.
const (
	SystemNamespace = "isthmus-system"

	ControlPlaneName    = "isthmusd"              // Deployment, Service, ServiceAccount of the control plane
	EastWestName        = "isthmus-eastwest"      // Deployment, Service, ServiceAccount of the east-west gateway
	EntryName           = "isthmus-entry"         // Deployment, Service, ServiceAccount of the entry gateway
	EntryRetiredName    = "isthmus-entry-retired" // ConfigMap: entry ports and synthetic addresses that must not be used again yet
	CASecretName        = "isthmus-ca"            // the cluster's intermediate; keys below
	BundleConfigMapName = "isthmus-ca-root"       // in every namespace; key BundleKey holds the trust bundle as PEM
	MeshConfigMapName   = "isthmus"               // mesh configuration of isthmusd
	ReaderAccountName   = "isthmus-reader"        // account that a peer's control plane reads this cluster with
	ManagerAccountName  = "isthmus-manager"       // account that a primary serves this remote with
	RemoteSecretPrefix  = "isthmus-remote-"       // remote secret of cluster C: isthmus-remote-C
	ServesSecretPrefix  = "isthmus-ca-"           // in a primary, what it signs with for remote C: isthmus-ca-C

	// Keys of the Secret CASecretName, all PEM: the intermediate with its chain
	// (leaf first, root not included), its key (PKCS#8) and the trust bundle.
	CAChainKey  = "ca.crt"
	CAKeyKey    = "ca.key"
	CABundleKey = "bundle.pem"

	BundleKey = "bundle.pem" // key of ConfigMap BundleConfigMapName

	// Keys of a remote secret: a kubeconfig, and the name of the cluster it leads to.
	RemoteKubeconfigKey = "kubeconfig"
	RemoteClusterKey    = "cluster"
)

// Labels and annotations.
const (
	LabelRemoteCluster = "isthmus.dev/remote-cluster" // on a remote secret; the value is the cluster's name
	LabelServes        = "isthmus.dev/serves"         // on such a Secret; the value is the remote's name
	LabelInject        = "isthmus.dev/inject"         // on a namespace or pod: "true" or "false"
	LabelIstioInject   = "istio-injection"            // on a namespace: "enabled" or "disabled"
	LabelIstioPod      = "sidecar.istio.io/inject"    // on a pod: "true" or "false"; a label, or an annotation
	LabelGateway       = "isthmus.dev/gateway"        // on a gateway's Service and pods: GatewayEastWest or GatewayEntry
	LabelEntry         = "isthmus.dev/entry"          // on a namespace: EntryRefuse shuts its pods out of the entry gateway
	LabelManagedBy     = "app.kubernetes.io/managed-by"
	ManagedBy          = "isthmus"

	GatewayEastWest = "east-west"
	GatewayEntry    = "entry"

	// AnnotationEntry on a ServiceExport: EntryRefuse makes the service
	// unreachable through entry gateways, whose callers share one identity.
	AnnotationEntry = "isthmus.dev/entry"
	EntryRefuse     = "refuse"
	// AnnotationEntryPorts on an imported EndpointSlice holds the entry gateway's
	// port for each of the import's: "9080=20001,9090=20002", sorted.
	AnnotationEntryPorts = "isthmus.dev/entry-ports"
	// AnnotationExportTo on a ServiceExport names the clusters that may import it,
	// comma-separated; without it every linked cluster may.
	AnnotationExportTo = "isthmus.dev/export-to"

	// AnnotationInjected is on every injected pod; its value is the sidecar's
	// version. A pod with it, and ready, speaks mTLS.
	AnnotationInjected = "isthmus.dev/injected"
	// AnnotationGatewayAddresses on the east-west gateway's Service gives its
	// outside addresses by hand: "host:port,host:port".
	AnnotationGatewayAddresses = "isthmus.dev/gateway-addresses"
	// AnnotationCheckpoint on an imported EndpointSlice holds what addresses
	// cannot say, as JSON.
	AnnotationCheckpoint = "isthmus.dev/checkpoint"
	// AnnotationLocalName on a ServiceExport: "failover" lets callers of the
	// cluster.local name fail over to other clusters.
	AnnotationLocalName = "isthmus.dev/local-name"
	LocalNameFailover   = "failover"
	// AnnotationNetwork on the system namespace names the cluster's network.
	AnnotationNetwork = "isthmus.dev/network"
	// AnnotationDrain on the system namespace says that traffic is kept away from
	// the cluster, as federation.Drain writes it; on a ClusterLink, that this cluster
	// keeps away from that one. The lower share counts.
	AnnotationDrain = "isthmus.dev/drain"
	// AnnotationStatus is on every injected pod: what was put into it, as JSON.
	AnnotationStatus = "isthmus.dev/status"

	// On pods: AnnotationExcludeOutboundPorts and its siblings, comma-separated
	// lists of what the sidecar leaves alone. What is included is everything
	// ("*") unless one names it; docs/injection.md has Istio's names for them.
	AnnotationExcludeOutboundPorts = "isthmus.dev/exclude-outbound-ports"
	AnnotationExcludeInboundPorts  = "isthmus.dev/exclude-inbound-ports"
	AnnotationExcludeOutboundCIDRs = "isthmus.dev/exclude-outbound-cidrs"
	AnnotationExcludeOutboundUIDs  = "isthmus.dev/exclude-outbound-uids"
	AnnotationExcludeOutboundGIDs  = "isthmus.dev/exclude-outbound-gids"
	AnnotationExcludeInterfaces    = "isthmus.dev/exclude-interfaces"
	AnnotationIncludeOutboundPorts = "isthmus.dev/include-outbound-ports"
	AnnotationIncludeInboundPorts  = "isthmus.dev/include-inbound-ports"
	AnnotationIncludeOutboundCIDRs = "isthmus.dev/include-outbound-cidrs"
	// AnnotationRewriteProbes on a pod: "false" leaves its probes to kubelet.
	AnnotationRewriteProbes = "isthmus.dev/rewrite-probes"

	// LabelRevision on a control plane's objects names its revision; the first one's have none.
	LabelRevision = "isthmus.dev/revision"
	// LabelRev on a namespace or pod names the revision whose webhook injects it, as istio.io/rev does.
	LabelRev = "isthmus.dev/rev"

	LabelTopologyNetwork = "topology.isthmus.dev/network"
)

// Socket marks that proxies set on their own connections, so that the redirect
// rules know them from the application's (a uid cannot be used without root).
const (
	MarkOutbound = 1337 // dialled for an outbound listener; over loopback it is sent to PortInbound
	MarkInbound  = 1338 // dialled for an inbound listener: goes straight to the application
	ProxyUID     = 1337 // where the proxy runs under an id of its own
)

// East-west naming; eastwest builds and parses the names.
const (
	ALPN        = "isthmus"                    // the mesh's application protocol, offered in every mesh ClientHello
	SNISuffix   = "sni.isthmus.internal"       // all server names that gateways pass on end in this
	ProbeName   = "probe.sni.isthmus.internal" // the gateway itself answers under this name
	ClusterZone = "clusters.isthmus.internal"  // a leaf of cluster C bears the DNS name C.clusters.isthmus.internal
)

// DNS zones.
const (
	ZoneCluster    = "cluster.local"
	ZoneClusterSet = "clusterset.local"
)

// DefaultTrustDomain is the trust domain where nobody chose one.
const DefaultTrustDomain = "cluster.local"

// OfRevision returns the name that an object of the control plane has in a revision; "" is
// the first one's.
func OfRevision(name, revision string) string {
	if revision == "" {
		return name
	}
	return name + "-" + revision
}

// TokenAudience is the audience of the service-account tokens by which proxies
// of cluster prove themselves, so that a token is worth nothing elsewhere.
func TokenAudience(cluster string) string { return "isthmus.dev/" + cluster }

// Images. The hub can be set at install; these are the repository names.
const (
	ImageHub          = "isthmus-mesh"
	ImageControlPlane = "isthmusd"
	ImageProxy        = "isthmus-proxy"
	ImageSamples      = "isthmus-samples"
)
