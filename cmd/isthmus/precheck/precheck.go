// Package precheck looks at clusters without changing them, and says whether they
// can take the mesh and what to do where not.
package precheck

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// State is how a finding stands.
type State string

const (
	OK   State = "ok"
	Warn State = "warn" // works, but look at it
	Bad  State = "FAIL"
)

// Finding is one thing that was looked at.
type Finding struct {
	Where   string `json:"where"` // context, or contexts
	What    string `json:"what"`
	State   State  `json:"state"`
	Message string `json:"message"`
	Next    string `json:"next,omitempty"` // what to do, where it is not ok
}

// Report is everything that was looked at. OK says that nothing is bad.
type Report struct {
	OK       bool      `json:"ok"`
	Findings []Finding `json:"findings"`
}

// patience is how long one cluster may take for everything.
const patience = 20 * time.Second

// Plan is what is to be installed in one cluster. Empty strings are as installed, else as install would choose.
type Plan struct {
	Cluster       *cluster.Cluster
	Name, Network string
	Synthetic     string // range of the addresses that stand for pods of other networks
}

// Run looks at all clusters at once.
func Run(ctx context.Context, clusters []*cluster.Cluster) Report {
	plans := make([]Plan, len(clusters))
	for i, c := range clusters {
		plans[i].Cluster = c
	}
	return RunPlans(ctx, plans)
}

// RunPlans looks at all clusters at once, and whether they can take what is planned.
func RunPlans(ctx context.Context, plans []Plan) Report {
	facts := make([]facts, len(plans))
	var wg sync.WaitGroup
	for i, p := range plans {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			facts[i] = look(ctx, p)
		})
	}
	wg.Wait()
	var findings []Finding
	for _, f := range facts {
		findings = append(findings, f.findings...)
	}
	return NewReport(append(findings, together(facts)...))
}

// NewReport returns the report of findings.
func NewReport(findings []Finding) Report {
	r := Report{OK: true, Findings: findings}
	for _, f := range findings {
		r.OK = r.OK && f.State != Bad
	}
	return r
}

// facts is what one cluster showed.
type facts struct {
	context  string
	name     string // as installed, else the context's
	network  string // as installed, else the name
	uid      string // of kube-system, which tells clusters apart
	podCIDRs []string
	// installed says that the mesh is there.
	installed bool
	plan      Plan
	findings  []Finding
}

func (f *facts) add(what string, state State, next, format string, args ...any) {
	finding := Finding{Where: f.context, What: what, State: state, Message: fmt.Sprintf(format, args...)}
	if state != OK {
		finding.Next = next
	}
	f.findings = append(f.findings, finding)
}

func look(ctx context.Context, p Plan) facts {
	c := p.Cluster
	f := facts{context: c.Context, plan: p}
	if !f.lookAtServer(ctx, c) {
		return f // nothing else can be asked
	}
	f.lookAtRights(ctx, c)
	f.lookAtInstallation(ctx, c)
	f.lookAtDefinitions(ctx, c)
	f.lookAtIdentity(ctx, c)
	f.lookAtNodes(ctx, c)
	f.lookAtRanges(ctx, c)
	f.lookAtGuard(c)
	f.findings = append(f.findings, PodSecurity(ctx, c)...)
	f.lookAtDNS(ctx, c)
	if p.Name != "" && !f.installed {
		f.name, f.network = p.Name, p.Name
	}
	f.network = cmp.Or(p.Network, f.network)
	return f
}
