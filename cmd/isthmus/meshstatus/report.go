// Package meshstatus reads the state of the mesh from its clusters, as objects and
// debug views tell it: nothing is concluded that nobody said.
package meshstatus

import (
	"time"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// Report is the state of all clusters that were asked.
type Report struct {
	Time     time.Time `json:"time"`
	Clusters []Cluster `json:"clusters"`
	// Healthy says that every cluster answered, all its parts are ready, every link is
	// Connected, and no proxy refused anything.
	Healthy bool `json:"healthy"`
}

// Cluster is the state of one cluster.
type Cluster struct {
	Context      string     `json:"context"`
	Cluster      string     `json:"cluster,omitempty"` // empty: no mesh is installed
	Primary      string     `json:"primary,omitempty"` // of a remote: the cluster that serves it, whose control plane is told of here
	Network      string     `json:"network,omitempty"`
	TrustDomain  string     `json:"trustDomain,omitempty"`
	Version      string     `json:"version,omitempty"` // Kubernetes
	Tag          string     `json:"tag,omitempty"`     // of the mesh's images
	Error        string     `json:"error,omitempty"`   // it could not be asked
	Drain        *Drain     `json:"drain,omitempty"`   // absent: it is in full use
	ControlPlane Workload   `json:"controlPlane"`
	Revisions    []Revision `json:"revisions,omitempty"` // control planes beside it
	Gateway      Gateway    `json:"gateway"`
	Entry        Entry      `json:"entry"`
	Links        []Link     `json:"links"`
	Exports      []Export   `json:"exports"`
	Imports      []Import   `json:"imports"`
	Proxies      ProxyCount `json:"proxies"`
	Problems     []Problem  `json:"problems,omitempty"`
	Drill        string     `json:"drill,omitempty"` // one that is noted there, and whether it gives signs of life
	Notes        []string   `json:"notes,omitempty"` // what could not be read, and why

	home *cluster.Cluster // where its control plane runs; nil where that was not among those asked
}

// Drain says that traffic is kept away from a cluster.
type Drain struct {
	Stage string    `json:"stage"` // draining, drained or returning
	Share int       `json:"share"` // per cent of its usual traffic
	Since time.Time `json:"since,omitzero"`
}

// Workload is a Deployment of the mesh.
type Workload struct {
	Ready int32 `json:"ready"`
	Want  int32 `json:"want"`
}

// Revision is a control plane beside the first one.
type Revision struct {
	Name string `json:"name"`
	Workload
	Tag       string `json:"tag"` // of its image
	Connected int    `json:"connected"`
}

// OK reports whether there is one and all of it is ready.
func (w Workload) OK() bool { return w.Want > 0 && w.Ready >= w.Want }

// Gateway is the east-west gateway.
type Gateway struct {
	Workload
	Addresses []string `json:"addresses,omitempty"` // host:port from outside
}

// Entry is the entry gateway, with the numbers that imports have of its range. Ranges are those
// that isthmusd runs with; empty where it does not say.
type Entry struct {
	Workload
	Ports     Use `json:"ports"`
	Synthetic Use `json:"synthetic"` // addresses that stand for pods of other networks
}

// Use is how much of a range is given away.
type Use struct {
	Range   string `json:"range,omitempty"`
	Size    int    `json:"size,omitempty"`
	Used    int    `json:"used"`    // by imports
	Resting int    `json:"resting"` // given up, and not to be used for another yet
}

// Free is how many are left; less than 0 where the range was made smaller.
func (u Use) Free() int { return u.Size - u.Used - u.Resting }

// Link is a ClusterLink with its status.
type Link struct {
	Cluster string `json:"cluster"` // the one that is read
	v1alpha1.ClusterLinkStatus
}

// Export is a ServiceExport.
type Export struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Valid     string    `json:"valid,omitempty"` // True, False, Unknown; empty when nobody said
	Ready     string    `json:"ready,omitempty"`
	Conflict  string    `json:"conflict,omitempty"`
	Message   string    `json:"message,omitempty"` // of the first condition that is not well
	Since     time.Time `json:"since,omitzero"`
	// What its annotations say, as they are; empty for what is usual.
	To        []string `json:"to,omitempty"` // clusters that may import it, sorted
	LocalName string   `json:"localName,omitempty"`
	Entry     string   `json:"entry,omitempty"`
}

// Import is a ServiceImport.
type Import struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	IPs       []string `json:"ips,omitempty"`
	Ports     []int32  `json:"ports,omitempty"`
	Clusters  []string `json:"clusters,omitempty"` // that export it
}

// ProxyCount counts the proxies of a cluster.
type ProxyCount struct {
	Injected  int `json:"injected"`  // running pods with a sidecar
	Connected int `json:"connected"` // streams to the control plane
	Refusing  int `json:"refusing"`  // proxies that refused something and still do
}

// Problem is something wrong in a user's object, in the control plane's words.
type Problem struct {
	Cluster   string `json:"cluster"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Reason    string `json:"reason"`
	Message   string `json:"message"`
}

// healthy reports whether nothing of c is amiss.
func (c Cluster) healthy() bool {
	if c.Error != "" || c.Cluster == "" || (c.Primary == "" || c.home != nil) && !c.ControlPlane.OK() || c.Proxies.Refusing > 0 {
		return false
	}
	if c.Gateway.Want > 0 && !c.Gateway.OK() {
		return false
	}
	if c.Entry.Want > 0 && !c.Entry.OK() {
		return false
	}
	for _, r := range c.Revisions {
		if !r.OK() {
			return false
		}
	}
	for _, l := range c.Links {
		if l.State != v1alpha1.LinkConnected {
			return false
		}
	}
	return true
}
