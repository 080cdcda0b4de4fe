// Package container starts one container: it runs as first process in the
// container's new namespaces, lays out the root file system, gives up
// capabilities and becomes the program.
package container

// Spec is what the runtime in sandbox/kube writes on descriptor 3, as JSON. The
// other end is sandbox/kube/cri/spec.go; the two must agree.
type Spec struct {
	Root         string   `json:"root"` // an empty directory
	Mounts       []Mount  `json:"mounts"`
	Args         []string `json:"args"`
	Env          []string `json:"env"`
	Dir          string   `json:"dir"`
	Capabilities []uint   `json:"capabilities"` // to keep, by number
	ReadOnly     bool     `json:"readOnly"`     // the root file system
	NoNewPrivs   bool     `json:"noNewPrivs"`
	Tools        bool     `json:"tools"` // bind the host's /usr and what belongs to it
}

// Mount binds a file or folder of the node into the container.
type Mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly"`
}

// Descriptors that the runtime passes.
const (
	specFD  = 3 // Spec, read to its end
	errorFD = 4 // gets the text of an error; closed without one when the program runs
)
