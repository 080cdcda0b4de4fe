// Package v1alpha1 holds the Kubernetes types that are Isthmus' own, in the
// group isthmus.dev: ClusterLink.
//
// +kubebuilder:object:generate=true
// +groupName=isthmus.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is isthmus.dev/v1alpha1.
var GroupVersion = schema.GroupVersion{Group: "isthmus.dev", Version: "v1alpha1"}

// AddToScheme registers the types of this package.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &ClusterLink{}, &ClusterLinkList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}

// LinkState sums a link up in one word.
type LinkState string

const (
	LinkPending   LinkState = "Pending"   // never read yet
	LinkConnected LinkState = "Connected" // API server reachable and gateway answering (or none needed)
	LinkDegraded  LinkState = "Degraded"  // reachable, gateway silent: used only as the last resort
	LinkStale     LinkState = "Stale"     // unreachable, gateway answers: last known endpoints are served
	LinkLost      LinkState = "Lost"      // unreachable and silent
	LinkRefused   LinkState = "Refused"   // the secret was refused; the message says why
)

// Condition types and reasons of a ClusterLink.
const (
	ConditionSecretValid    = "SecretValid"    // the kubeconfig was accepted
	ConditionReachable      = "Reachable"      // a small read was answered in the last 10 s
	ConditionSynced         = "Synced"         // everything has been listed at least once
	ConditionGatewayAnswers = "GatewayAnswers" // some gateway address ends a probe in the right handshake
	ReasonAnswered          = "Answered"
	ReasonNoAnswer          = "NoAnswer"
	ReasonUnknown           = "Unknown"
	ReasonNotNeeded         = "NotNeeded" // the same network
	ReasonNoGateway         = "NoGateway"
	ReasonAccepted          = "Accepted"
	ReasonRefused           = "Refused"
	ReasonListed            = "Listed"
	ReasonListing           = "Listing"

	// ConditionDraining is True while traffic is kept away from the cluster; its
	// reason is how far that is. It is no fault, and the state stays as it is.
	ConditionDraining  = "Draining"
	ReasonDraining     = "Draining"     // traffic leaves
	ReasonDrained      = "Drained"      // somebody has seen that it left
	ReasonReturning    = "Returning"    // traffic comes back, as the message says
	ReasonInUse        = "InUse"        // False
	ReasonInvalidDrain = "InvalidDrain" // the link's annotation cannot be read; the message says why
)

// ClusterLink is one direction of trust and discovery: the cluster that holds
// it reads cluster Spec.Cluster. It lives in the system namespace, and its name
// is the remote cluster's. `isthmus link` writes the spec; the elected control
// plane writes the status.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=clink
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Since",type=date,JSONPath=`.status.since`
// +kubebuilder:printcolumn:name="Network",type=string,JSONPath=`.status.network`
// +kubebuilder:printcolumn:name="Exports",type=integer,JSONPath=`.status.exports`
type ClusterLink struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              ClusterLinkSpec   `json:"spec"`
	Status            ClusterLinkStatus `json:"status,omitempty"`
}

// ClusterLinkSpec says which cluster is read and how.
type ClusterLinkSpec struct {
	// Cluster is the remote cluster's name.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=63
	Cluster string `json:"cluster"`
	// SecretName is the remote secret in the same namespace.
	// +optional
	SecretName string `json:"secretName,omitempty"`
	// Gateways replaces the discovered gateway addresses: "host:port".
	// +optional
	Gateways []string `json:"gateways,omitempty"`
	// Lease is how long a lost cluster's endpoints are kept. Default 10m.
	// +optional
	Lease *metav1.Duration `json:"lease,omitempty"`
	// Priority orders clusters that are equally near, lower first.
	// +optional
	Priority int32 `json:"priority,omitempty"`
	// Fault has this cluster's control plane behave as if the remote API server were
	// out of order. Drills write it and take it away.
	// +optional
	Fault *LinkFault `json:"fault,omitempty"`
}

// LinkFault is a drill on a link. It ends by itself unless Renewed changes again and again.
type LinkFault struct {
	// APIServer is how the remote API server seems: it refuses connections ("refuse"), or
	// what it sends vanishes ("drop").
	// +kubebuilder:validation:Enum=refuse;drop
	APIServer string `json:"apiServer"`
	// Seconds is how long the fault lasts from when a control plane sees that Renewed changed.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=60
	Seconds int32 `json:"seconds"`
	// Renewed is when whoever drills last asked for the fault. It is compared with what it was
	// before and with no clock, so that clocks may differ.
	Renewed metav1.MicroTime `json:"renewed"`
}

// ClusterLinkStatus is what the elected control plane last saw.
type ClusterLinkStatus struct {
	// +optional
	State LinkState `json:"state,omitempty"`
	// Since is when State last changed.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// LastReachable is when the API server last answered.
	// +optional
	LastReachable *metav1.Time `json:"lastReachable,omitempty"`
	// Message says what is wrong and what to do, in one sentence; empty if nothing.
	// +optional
	Message string `json:"message,omitempty"`
	// +optional
	Network string `json:"network,omitempty"`
	// +optional
	ServerVersion string `json:"serverVersion,omitempty"`
	// Server is the address of the remote API server that is read.
	// +optional
	Server string `json:"server,omitempty"`
	// Drain is what the cluster itself last said of its drain, as the annotation
	// isthmus.dev/drain of its system namespace; empty while it is in full use.
	// +optional
	Drain string `json:"drain,omitempty"`
	// Exports and Endpoints count what is read from there.
	// +optional
	Exports int32 `json:"exports"`
	// +optional
	Endpoints int32 `json:"endpoints"`
	// Fault is the fault that is in force: refuse or drop, while a drill has it so.
	// +optional
	Fault string `json:"fault,omitempty"`
	// +optional
	Gateways []GatewayStatus `json:"gateways,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// GatewayStatus is what the elected prober sees of one gateway address.
type GatewayStatus struct {
	Address string `json:"address"` // "host:port"
	Answers bool   `json:"answers"`
	// Since is when Answers last changed.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
}

// ClusterLinkList is a list of ClusterLinks.
//
// +kubebuilder:object:root=true
type ClusterLinkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ClusterLink `json:"items"`
}
