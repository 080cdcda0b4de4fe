package drilling

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// Plan is a drill that could be done, and whether it may.
type Plan struct {
	Spec     drill.Spec `json:"spec"`
	From     string     `json:"from"` // the cluster that the load comes from
	What     string     `json:"what"`
	Findings []Finding  `json:"findings"`
	Steps    []string   `json:"steps"`
	Wants    []string   `json:"objectives"` // in words

	seen       *seen
	scenario   drill.Scenario
	changes    []drill.Change // client included
	objectives drill.Objectives
}

// Prepare plans a drill and changes nothing. An error says that it cannot be planned; whether it is
// safe is in the plan.
func Prepare(ctx context.Context, kubeconfig string, spec drill.Spec) (*Plan, error) {
	s, err := look(ctx, kubeconfig, spec)
	if err != nil {
		return nil, err
	}
	p := &Plan{Spec: s.spec, From: s.home, seen: s, objectives: s.spec.Judged()}
	p.Findings = append(p.Findings, s.drillsFound(ctx))
	if err := p.build(ctx, hands(kubeconfig)); err != nil {
		return nil, err
	}
	p.What = p.scenario.What
	p.describe()
	return p, nil
}

// describe puts the plan into words.
func (p *Plan) describe() {
	var held []string
	for _, name := range p.holders() {
		held = append(held, name.Context)
	}
	p.Steps = append(p.Steps, fmt.Sprintf("note the drill as lease %s/%s in %s", api.SystemNamespace, drill.NoteName, strings.Join(held, ", ")))
	client := p.changes[0]
	p.Steps = append(p.Steps, fmt.Sprintf("%s and send %g requests/s to %s", client, p.Spec.Rate, p.url()))
	p.Steps = append(p.Steps, fmt.Sprintf("watch for %s", p.Spec.Baseline))
	for _, c := range p.changes[1:] {
		p.Steps = append(p.Steps, "BREAK: "+c.String())
	}
	again := ""
	if p.scenario.During != nil {
		again = fmt.Sprintf(", mending and breaking again every %s", p.Spec.Period)
	}
	p.Steps = append(p.Steps, fmt.Sprintf("measure for %s%s", p.Spec.Duration, again), "restore all of it, however the drill ends", "wait until all is as before, then watch for "+p.Spec.After.String())
	p.Wants = p.objectives.Lines()
}

// Safe returns nil where the drill may be done; the error wraps drill.ErrUnsafe or drill.ErrRunning.
func (p *Plan) Safe() error {
	for _, f := range p.Findings {
		if f.OK || f.Forcible && p.Spec.Force {
			continue
		}
		cause := f.err
		if cause == nil {
			cause = fmt.Errorf("%w: %s", drill.ErrUnsafe, f.Text)
		}
		return unsafeError{cause, cmp.Or(f.Next, "isthmus status"), f.Forcible}
	}
	return nil
}

// unsafeError knows what can be done about it.
type unsafeError struct {
	error
	next     string
	forcible bool
}

func (e unsafeError) Unwrap() error { return e.error }

// Next returns what can be done about an error of this package, or "".
func Next(err error) string {
	u, ok := errors.AsType[unsafeError](err)
	switch {
	case !ok && errors.Is(err, ErrNoImport):
		return "isthmus export NAMESPACE/NAME --context CONTEXT, in two clusters"
	case !ok:
		return ""
	case u.forcible:
		return u.next + "; --force goes on as it is"
	}
	return u.next
}

// Print writes the plan for people.
func (p *Plan) Print(w io.Writer) error {
	fmt.Fprintf(w, "Drill %s of %s from %s: %s\n\nsafety\n", p.Spec.Scenario, p.Spec.Service, p.From, p.What)
	for _, f := range p.Findings {
		fmt.Fprintf(w, "  %s\n", f)
	}
	fmt.Fprintln(w, "\nit would")
	for i, s := range p.Steps {
		fmt.Fprintf(w, "  %d. %s\n", i+1, s)
	}
	fmt.Fprintln(w, "\nobjectives")
	for _, o := range p.Wants {
		fmt.Fprintf(w, "  %s\n", o)
	}
	_, err := fmt.Fprintln(w, "\nNothing was changed.")
	return err
}

// url is what the load asks for.
func (p *Plan) url() string {
	return fmt.Sprintf("http://%s.%s.svc.%s:%d%s", p.seen.name, p.seen.namespace, api.ZoneClusterSet, p.Spec.Port, p.Spec.Path)
}

// image is the client's.
func (p *Plan) image() string {
	in := p.seen.installed
	return cmp.Or(p.Spec.Image, fmt.Sprintf("%s/%s:%s", cmp.Or(in.Hub, api.ImageHub), api.ImageSamples, cmp.Or(in.Tag, "dev")))
}

// holders are the clusters that are told of the drill: all that we can reach, home first, so that
// whoever starts another drill anywhere sees it.
func (p *Plan) holders() []*cluster.Cluster {
	out := []*cluster.Cluster{p.seen.from}
	for _, name := range sorted(p.seen.members) {
		if name != p.seen.home {
			out = append(out, p.seen.members[name])
		}
	}
	return out
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func durationOf(d drill.Duration) time.Duration { return time.Duration(d) }
