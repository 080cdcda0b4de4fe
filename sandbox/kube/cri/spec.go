package cri

// containerSpec is what `isthmus-sandboxd container` reads on descriptor 3. Its
// other end is sandbox/container/spec.go of the main module; the two must agree.
type containerSpec struct {
	Root         string      `json:"root"`
	Mounts       []mountSpec `json:"mounts"`
	Args         []string    `json:"args"`
	Env          []string    `json:"env"`
	Dir          string      `json:"dir"`
	Capabilities []uint      `json:"capabilities"`
	ReadOnly     bool        `json:"readOnly"`
	NoNewPrivs   bool        `json:"noNewPrivs"`
	Tools        bool        `json:"tools"`
}

type mountSpec struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly"`
}
