package draining

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/drilling"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/importview"
	"github.com/isthmus-mesh/isthmus/federation"
)

// Plan is what a drain would move and what not, and whether it may be done.
type Plan struct {
	Cluster  string             `json:"cluster"`
	Findings []drilling.Finding `json:"findings"`
	Moves    []string           `json:"moves"` // services, NAMESPACE/NAME, that others serve too
	Stays    []Stay             `json:"stays"`
	Steps    []string           `json:"steps"`
	Stage    string             `json:"stage,omitempty"` // of a drain that is under way already

	target  *Target
	byPeers bool
	stays   map[string]Stay // by service
}

// Stay is a service whose traffic, or some of it, does not leave the cluster.
type Stay struct {
	Service string `json:"service"` // NAMESPACE/NAME
	Why     string `json:"why"`
	// Partly says that only callers of its local name stay.
	Partly bool `json:"partly,omitempty"`
}

// Why a service stays.
const (
	whyAlone    = "no other cluster has a ready endpoint of it"
	whyHeadless = "it is headless: callers choose its pods themselves"
	whyLocal    = "it is not exported: only pods of its own cluster call it"
	whyName     = "pods of its own cluster that call its local name (cluster.local) stay; isthmus export --local-name failover lets them go"
)

// ErrUnsafe is wrapped where a drain must not be done, or only with --force.
var ErrUnsafe = errors.New("drain is not safe")

// unsafeError knows what can be done about it.
type unsafeError struct {
	error
	next string
}

func (e unsafeError) Unwrap() error { return e.error }

// Next returns what can be done about an error of this package, or "".
func Next(err error) string {
	if u, ok := errors.AsType[unsafeError](err); ok {
		return u.next
	}
	return ""
}

// Prepare plans a drain and changes nothing. byPeers lets each other cluster keep
// away by its own link, which works without the cluster's API server.
func Prepare(ctx context.Context, t *Target, byPeers bool) (*Plan, error) {
	p := &Plan{Cluster: t.Name, Findings: []drilling.Finding{}, Moves: []string{}, Stays: []Stay{}, target: t, byPeers: byPeers, stays: map[string]Stay{}}
	if t.There == nil && !byPeers {
		peers := strings.Join(t.PeerNames(), ", ")
		return nil, unsafeError{fmt.Errorf("cluster %s cannot be told that it is drained: %w", t.Name, t.Err),
			fmt.Sprintf("isthmus drain %s --by-peers lets %s keep away from it, each by its own ClusterLink; its own callers stay", t.Name, peers)}
	}
	now, _, err := t.now(ctx)
	if err != nil {
		return nil, err
	}
	p.Stage = now.String()
	if err := p.judge(ctx); err != nil {
		return nil, err
	}
	p.describe()
	return p, nil
}

// judge looks at links, other drains and services.
func (p *Plan) judge(ctx context.Context) error {
	t := p.target
	report := importview.Collect(ctx, t.all(), "", "")
	if len(report.Notes) > 0 {
		return fmt.Errorf("read imports: %s", report.Notes[0])
	}
	elsewhere, err := p.judgeLinks(ctx)
	if err != nil {
		return err
	}
	if len(elsewhere) == 0 {
		p.Findings = append(p.Findings, drilling.Refused("isthmus undrain one of them, or isthmus check", "no other cluster is both reached and in use: there is nowhere to go"))
	}
	before := len(p.Findings)
	for _, i := range report.Imports {
		p.judgeImport(i, elsewhere)
	}
	if n := len(p.Moves) - (len(p.Findings) - before); n > 0 {
		p.Findings = append(p.Findings, drilling.Fine("%d service(s) have at least as many ready endpoints elsewhere", n))
	}
	if t.There != nil {
		if err := p.judgeLocal(ctx, report.Imports); err != nil {
			return err
		}
	}
	slices.SortFunc(p.Stays, func(a, b Stay) int { return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Why, b.Why)) })
	slices.Sort(p.Moves)
	return nil
}

// judgeLinks returns the clusters that can take traffic, with the state of the way
// there: as the drained cluster's own links say, else, where it cannot be asked, the
// peers that are in use themselves.
func (p *Plan) judgeLinks(ctx context.Context) (map[string]v1alpha1.LinkState, error) {
	out := map[string]v1alpha1.LinkState{}
	if p.target.There == nil {
		for _, name := range p.target.PeerNames() {
			d, err := ownPlace(p.target.Peers[name]).read(ctx)
			switch {
			case err != nil && !errors.Is(err, federation.ErrDrain):
				return nil, err
			case d != nil:
				p.Findings = append(p.Findings, drilling.Fine("%s takes nothing: it is %s itself", name, d.Stage))
			default:
				out[name] = v1alpha1.LinkConnected
			}
		}
		return out, nil
	}
	all, err := links(ctx, p.target.There)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		switch link := all[name]; {
		case link.Status.State != v1alpha1.LinkConnected:
			p.Findings = append(p.Findings, drilling.Doubtful("isthmus check tells what is not well", "the link from %s to %s is %s: callers of %s cannot move there", p.Cluster, name, cmp.Or(link.Status.State, v1alpha1.LinkPending), p.Cluster))
		case draining(link):
			p.Findings = append(p.Findings, drilling.Fine("%s takes nothing: it is drained itself", name))
		default:
			p.Findings = append(p.Findings, drilling.Fine("the link from %s to %s is %s", p.Cluster, name, link.Status.State))
			out[name] = link.Status.State
		}
	}
	return out, nil
}

// judgeImport says whether an exported service moves.
func (p *Plan) judgeImport(i importview.Import, elsewhere map[string]v1alpha1.LinkState) {
	service := i.Namespace + "/" + i.Name
	at := slices.IndexFunc(i.Exporters, func(e importview.Exporter) bool { return e.Cluster == p.Cluster })
	if at < 0 || i.Endpoints(p.Cluster) == 0 {
		return
	}
	ready := map[string]int{}
	others := 0
	for _, e := range i.Exporters {
		if len(e.To) > 0 && e.Cluster != p.Cluster && !slices.Contains(e.To, p.Cluster) {
			continue // for chosen clusters only, and this is none of them
		}
		ready[e.Cluster] = int(i.Endpoints(e.Cluster))
		if _, ok := elsewhere[e.Cluster]; ok {
			others += ready[e.Cluster]
		}
	}
	switch {
	case i.Type == "Headless":
		p.stay(service, whyHeadless, false)
	case others == 0:
		p.stay(service, whyAlone, false)
	default:
		p.Moves = append(p.Moves, service)
		if f := drilling.Capacity(service, p.Cluster, p.Cluster, ready, elsewhere); !f.OK {
			f.Text = service + ": " + f.Text
			p.Findings = append(p.Findings, f)
		}
		if i.Exporters[at].LocalName != api.LocalNameFailover {
			p.stay(service, whyName, true)
		}
	}
}

func (p *Plan) stay(service, why string, partly bool) {
	s := Stay{Service: service, Why: why, Partly: partly}
	p.Stays = append(p.Stays, s)
	p.stays[service] = s
}

// judgeLocal adds the services of sidecars that nobody exports.
func (p *Plan) judgeLocal(ctx context.Context, imports []importview.Import) error {
	exported := map[string]bool{}
	for _, i := range imports {
		for _, e := range i.Exporters {
			exported[i.Namespace+"/"+i.Name] = exported[i.Namespace+"/"+i.Name] || e.Cluster == p.Cluster
		}
	}
	served, err := servedServices(ctx, p.target.There)
	if err != nil {
		return err
	}
	for service := range served {
		if !exported[service] {
			p.stay(service, whyLocal, false)
		}
	}
	return nil
}

// Safe returns nil where the drain may be done; the error wraps ErrUnsafe.
func (p *Plan) Safe(force bool) error {
	for _, f := range p.Findings {
		if f.OK || f.Forcible && force {
			continue
		}
		next := cmp.Or(f.Next, "isthmus status")
		if f.Forcible {
			next += "; --force goes on as it is"
		}
		return unsafeError{fmt.Errorf("%w: %s", ErrUnsafe, f.Text), next}
	}
	return nil
}

func (p *Plan) describe() {
	where := "the namespace " + api.SystemNamespace + " of " + p.Cluster
	if p.byPeers {
		where = "the links to " + p.Cluster + " of " + strings.Join(p.target.PeerNames(), ", ")
	}
	p.Steps = []string{
		fmt.Sprintf("write the annotation %s on %s", api.AnnotationDrain, where),
		"wait until every control plane knows it",
	}
	if p.target.There != nil {
		p.Steps = append(p.Steps, "watch the sidecars and gateways of "+p.Cluster+" until nothing that moves is left, and say so there")
	}
}

// Print writes the plan for people.
func (p *Plan) Print(w io.Writer) error {
	fmt.Fprintf(w, "Drain cluster %s\n\nsafety\n", p.Cluster)
	for _, f := range p.Findings {
		fmt.Fprintf(w, "  %s\n", f)
	}
	if p.Stage != "" {
		fmt.Fprintf(w, "  ok       it is under way already: %s\n", p.Stage)
	}
	fmt.Fprintln(w, "\nmoves")
	fmt.Fprintf(w, "  %s\n", cmp.Or(strings.Join(p.Moves, ", "), "nothing"))
	printStays(w, p.Stays)
	fmt.Fprintln(w, "\nit would")
	for i, s := range p.Steps {
		fmt.Fprintf(w, "  %d. %s\n", i+1, s)
	}
	_, err := fmt.Fprintln(w, "\nNothing was changed.")
	return err
}

func printStays(w io.Writer, stays []Stay) {
	if len(stays) == 0 {
		return
	}
	fmt.Fprintln(w, "\nwill not move")
	byWhy := map[string][]string{}
	for _, s := range stays {
		byWhy[s.Why] = append(byWhy[s.Why], s.Service)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, why := range slices.Sorted(maps.Keys(byWhy)) {
		fmt.Fprintf(t, "  %s\t%s\n", drilling.Few(byWhy[why]), why)
	}
	t.Flush()
}

// draining reports whether whoever holds the link keeps away from its cluster.
func draining(l v1alpha1.ClusterLink) bool {
	return meta.IsStatusConditionTrue(l.Status.Conditions, v1alpha1.ConditionDraining)
}
